"""Presets as the panel offers them: those of the library, and one of the user's own whose text the scene keeps."""

from __future__ import annotations

import dataclasses
import os
import tempfile

from slicer.i18n import tr as _

from SpikeRegLib.configuration import FIELD_METHODS, Preset, load_preset, preset_for, preset_names, write_preset
from SpikeRegLib.errors import InputError
from SpikeRegSlicerLib.parameters import Method, Parameters

DEFAULT = "brain-t1"
PREVIEW = "fast-preview"
PREVIEW_WITHOUT_NETWORK = "any-anatomy"


def shipped() -> list[Preset]:
    """The library's presets, the default first."""
    return sorted(
        (load_preset(name) for name in preset_names()), key=lambda preset: (preset.name != DEFAULT, preset.name)
    )


def presetOf(parameters: Parameters) -> Preset:
    """The preset that is chosen.

    Raises:
        InputError: the library has none of this name, or the text in the scene is not a preset.
    """
    if not parameters.customPreset:
        return load_preset(parameters.preset)
    with tempfile.TemporaryDirectory() as folder:
        return load_preset(writeText(parameters, folder))


def fileOf(parameters: Parameters, folder: str) -> str:
    """What the worker takes for the chosen preset: a name, or a file written into `folder`."""
    return writeText(parameters, folder) if parameters.customPreset else parameters.preset


def writeText(parameters: Parameters, folder: str) -> str:
    """Write the text of the scene's own preset into `folder` under its name; the path."""
    path = os.path.join(folder, f"{parameters.preset}.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(parameters.customPreset)
    return path


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
        InputError: the choices do not fit together (a network method on a preset without a network), or the file cannot
            be written.
    """
    path = path if path.endswith(".toml") else path + ".toml"
    try:
        write_preset(withChoices(parameters), path)
    except ValueError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(
            _("{path}: cannot be written ({reason}); choose another folder").format(path=path, reason=error.strerror)
        ) from error
    return path
