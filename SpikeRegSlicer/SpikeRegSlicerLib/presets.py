"""Presets as the panel offers them: those of the library, and one of the user's own whose text the scene keeps."""

from __future__ import annotations

import dataclasses
import os

from slicer.i18n import tr as _

from SpikeRegLib.errors import InputError
from SpikeRegLib.presets.preset import (
    FIELD_METHODS,
    Preset,
    load_preset,
    parse_preset,
    preset_for,
    preset_names,
    write_preset,
)
from SpikeRegSlicerLib.parameters import Method, Parameters, isDeformable

DEFAULT = preset_for(None)
PREVIEW = "fast-preview"
PREVIEW_WITHOUT_NETWORK = "any-anatomy"


def shipped() -> list[Preset]:
    """The library's presets, the default first."""
    return sorted(
        (load_preset(name) for name in preset_names()), key=lambda preset: (preset.name != DEFAULT, preset.name)
    )


def presetOf(parameters: Parameters) -> Preset:
    """The preset that is chosen. What a scene says is never taken for a path, and nothing is written.

    Raises:
        InputError: the library has none of this name, or the text in the scene is not a preset.
    """
    if parameters.customPreset:
        return parse_preset(parameters.customPreset, parameters.preset)
    if parameters.preset not in preset_names():
        raise InputError(
            _("The preset {name} of this scene is unknown here; choose another one.").format(name=parameters.preset)
        )
    return load_preset(parameters.preset)


def wantsSpikeMaps(parameters: Parameters) -> bool:
    """Whether spike maps are asked for, and a network that fires runs: the panel asks for them unless told otherwise.

    Raises:
        InputError: see `presetOf`.
    """
    preset = presetOf(parameters)
    method = preset.method if parameters.method is Method.PRESET else parameters.method.value
    deforms = isDeformable(parameters)  # otherwise the method's network does not run
    fires = (deforms and method in ("spikereg", "spiking-nephi")) or (
        bool(preset.structures) and parameters.useStructures
    )
    return parameters.spikeMaps and fires


def filesOf(preset: Preset) -> list[str]:
    """The networks that a preset takes from files of its own, and not from the library."""
    return [model for model in (preset.model, preset.fine_model) if model.endswith(".safetensors")]


_accepted: set[str] = set()  # texts of presets that the person at this computer chose


def filesToAccept(parameters: Parameters) -> list[str]:
    """Files that a preset which came with the scene wants to be read; none once `accept` was called for it.

    Raises:
        InputError: see `presetOf`.
    """
    isOwn = not parameters.customPreset or parameters.customPreset in _accepted
    return [] if isOwn else filesOf(presetOf(parameters))


def accept(parameters: Parameters) -> None:
    """From now on the scene's own preset counts as chosen here, and may have its files read."""
    _accepted.add(parameters.customPreset)


def load(parameters: Parameters, path: str) -> Preset:
    """Choose the preset in a TOML file and keep its text in the scene, which then needs the file no more.

    Raises:
        InputError: the file cannot be read, or is not a preset; the parameters are as before.
    """
    preset = load_preset(path)
    if preset.name in preset_names():
        raise InputError(
            _("{path}: the library has a preset of this name; rename the file and load it again").format(path=path)
        )
    with open(path, encoding="utf-8") as file:
        text = file.read()
    parameters.customPreset, parameters.preset = text, preset.name
    accept(parameters)
    return preset


def choose(parameters: Parameters, name: str) -> None:
    """Choose one of the library's presets."""
    parameters.customPreset, parameters.preset = "", name


def withChoices(parameters: Parameters) -> Preset:
    """The chosen preset with the method, refinement and regularisation of the panel in it: what one would share."""
    preset = presetOf(parameters)
    refine = preset.refine
    if parameters.refineIterations >= 0:
        levels = (dataclasses.replace(level, iterations=parameters.refineIterations) for level in refine.levels)
        refine = dataclasses.replace(refine, levels=tuple(levels))
    method = preset.method if parameters.method is Method.PRESET else parameters.method.value
    networks = {}
    if method != preset.method and {method, preset.method} & set(FIELD_METHODS):  # they share no network with others
        suits = load_preset(preset_for(method))
        networks = {name: getattr(suits, name) for name in ("model", "fine_model", "passes", "field")}
    return dataclasses.replace(
        preset,
        **networks,
        method=method,
        refine=refine,
        regularisation=preset.regularisation * parameters.regularisation,
    )


def save(parameters: Parameters, path: str) -> str:
    """Write the preset with the panel's choices to a TOML file.

    Args:
        parameters: what is chosen.
        path: of the file; `.toml` is added where it is missing.

    Returns:
        The path written.

    Raises:
        InputError: the choices do not fit together (a network method on a preset without a network), the file cannot
            be written, or the name with `.toml` added is taken.
    """
    if not path.endswith(".toml"):
        path += ".toml"
        if os.path.lexists(path):  # nobody was asked about this one
            raise InputError(_("{path}: is there already; choose its full name to replace it").format(path=path))
    try:
        write_preset(withChoices(parameters), path)
    except ValueError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(
            _("{path}: cannot be written ({reason}); choose another folder").format(path=path, reason=error.strerror)
        ) from error
    return path
