"""Settings read from TOML into frozen dataclasses; every error names the file and the field."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from SpikeRegLib.errors import InputError
from SpikeRegLib.neural_field.settings import FieldSettings
from SpikeRegLib.refinement.schedule import Level, RefinementSchedule
from SpikeRegLib.system.atomic_files import atomic_output
from SpikeRegLib.text.names import check_name
from SpikeRegLib.text.ranges import check_numbers, one_of
from SpikeRegLib.text.toml_text import toml_text
from SpikeRegLib.text.yaml_text import YamlError, read_yaml_text

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the same library under its older name
    import tomli as tomllib

PRESET_FOLDER = Path(__file__).parent
METHODS = ("spikereg", "ann", "optimize", "nephi", "spiking-nephi")
# Those whose deformation is a neural field.
FIELD_METHODS = ("nephi", "spiking-nephi")
SIMILARITIES = ("lncc", "multicontrast", "auto")
# What a preset can be made for: on brains the verdict's bounds were measured, elsewhere they confirm nothing.
ANATOMIES = ("", "brain")

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class RefinementSettings:
    """The instance optimisation of a preset.

    Attributes:
        levels: coarse to fine; none leaves the optimisation out. Where a preset lets the working grid follow the image
            (`working_voxels`), their lengths are in its voxels instead of mm.
        window: edge of the correlation window in voxels of each level, odd.
        momentum: share of the last update kept in the next.
        start_sigma_mm: Gaussian smoothing of a network's prediction before the optimisation starts from it: its large
            displacements are kept, its small ones found anew.
        both_ways: how many of the first levels are optimised fixed -> moving and moving -> fixed, where nothing but the
            alignment comes before them: no prediction, no landmarks, no region.
    """

    levels: tuple[Level, ...]
    window: int = 5
    momentum: float = 0.5
    start_sigma_mm: float = 4.0
    both_ways: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.window % 2 == 0:
            raise ValueError(f"window: must be odd, got {self.window}")
        if not 0 <= self.both_ways <= len(self.levels):
            raise ValueError(f"both_ways: must be 0 to {len(self.levels)}, the levels there are, got {self.both_ways}")
        spacings = [level.spacing_mm for level in self.levels]
        if spacings != sorted(spacings, reverse=True):
            raise ValueError(f"levels: must go from coarse to fine, got spacings {spacings}")


@dataclass(frozen=True)
class Preset:
    """What `register` does when nothing else is said, for one kind of pair.

    Attributes:
        name: as given to `--preset`; the file's name without `.toml`.
        description: one line for people choosing.
        method: spikereg (spiking network), ann (its dense twin), optimize (no network), nephi (neural deformation
            field, with a dense encoder or without one) or spiking-nephi (with a spiking encoder).
        working_spacing_mm: voxel size of the isotropic grid on which everything after alignment happens; a network
            made for coarser voxels sees a smoothed, coarser copy.
        working_voxels: where positive, the voxel size is chosen instead so that the anatomy spans about this many.
        similarity: lncc (same contrast), multicontrast (T1 to T2, CT to MR...) or auto, the one of both that the
            intensities of structures found in the images ask for.
        passes: times the network is applied, each on the pair as warped so far; 0 without a network. An encoder of
            codes is applied once.
        model: name of a shipped weights file without suffix, or a path; empty without a network.
        fine_model: of a second network for one more pass at its smaller voxel size; empty for none.
        regularisation: factor on the smoothing lengths of every refinement level; a run's own factor comes on top.
        across_contrasts: one more factor on those of the refinement (not of a neural field), where similarity "auto"
            finds two contrasts: they say less of small places.
        refine: the instance optimisation that follows.
        field: of a neural deformation field; what suits the method where it is left out.
        structures: name of the weights, or a path, of a network that names structures in each image; what they are used
            for is an option. Empty for none.
        anatomy: "brain" where the preset is made for brains and its verdict may be good; empty for any anatomy.
    """

    name: str
    description: str
    method: str
    working_spacing_mm: float
    similarity: str
    passes: int
    model: str
    refine: RefinementSettings
    working_voxels: int = 0
    fine_model: str = ""
    regularisation: float = 1.0
    across_contrasts: float = 1.0
    field: FieldSettings | None = None
    structures: str = ""
    anatomy: str = ""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        one_of("method", self.method, METHODS)
        one_of("anatomy", self.anatomy, ANATOMIES)
        one_of("similarity", self.similarity, SIMILARITIES)
        check_numbers(self)
        if self.method == "nephi" and not self.model and self.field is not None and self.field.iterations:
            return
        if self.method != "optimize" and not (self.model and self.passes):
            raise ValueError(f"model: method {self.method!r} needs a model and at least one pass")

    def schedule(
        self, iterations: int | None = None, *, spacing_mm: float = 1.0, regularisation: float = 1.0
    ) -> RefinementSchedule | None:
        """What `refine` is to do, or None where the preset or `iterations` leave it out.

        Args:
            spacing_mm: of the working grid; scales all lengths where the grid follows the image.
            regularisation: one more factor on the smoothing lengths.
            iterations: at every level, instead of the preset's; 0 for none.

        Raises:
            InputError: iterations are asked for, but the preset has no level to make them at.
        """
        if iterations and not self.refine.levels:
            raise InputError(f"--refine-iterations: preset {self.name} has no refinement; choose another preset")
        if iterations == 0 or not self.refine.levels:
            return None
        scale = spacing_mm if self.working_voxels else 1.0
        levels = []
        for level in self.refine.levels:
            values = dataclasses.asdict(level)
            for length in ("spacing_mm", "field_mm", "velocity_sigma_mm", "field_sigma_mm"):
                values[length] *= scale
            for length in ("velocity_sigma_mm", "field_sigma_mm"):
                values[length] *= self.regularisation * regularisation
            levels.append(Level(**values if iterations is None else {**values, "iterations": iterations}))
        return RefinementSchedule(tuple(levels), self.refine.window, self.refine.momentum, self.refine.both_ways)


def preset_names() -> list[str]:
    """Names of the presets that ship with the library, sorted."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.toml"))


def preset_for(
    method: str | None, *, model: str | Path | None = None, timesteps: int | None = None, tile: int | None = None
) -> str:
    """The preset of a run that names none: what suits the method; without a method "brain".

    Args:
        method: of the run; None where nobody chose one.
        model, timesteps, tile: as asked for. They concern a network that registers, which "brain" has none of, so each
            of them alone asks for "brain-t1".
    """
    if method is None:
        return "brain" if model is None and timesteps is None and tile is None else "brain-t1"
    return {"optimize": "any-anatomy", "nephi": "nephi", "spiking-nephi": "spiking-nephi"}.get(method, "brain-t1")


def load_preset(name: str | Path) -> Preset:
    """Read a shipped preset by name, or one of your own by the path of its `.toml` file.

    Raises:
        InputError: no such preset, unreadable file, or a field that is missing, unknown or out of range.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = PRESET_FOLDER / f"{name}.toml"
        if str(name) not in preset_names():
            raise InputError(
                f"preset {str(name)!r}: unknown; choose one of {', '.join(preset_names())}, or give a .toml file"
            )
    return settings_from_table(Preset, {"name": path.stem, **read_toml(path)}, source=path)


def parse_preset(text: str, name: str) -> Preset:
    """The preset that a TOML text describes, without any file.

    Args:
        text: as in a preset's `.toml` file.
        name: of the preset, where the text does not say one.

    Raises:
        InputError: not TOML, a field that is missing, unknown or out of range, or a name that is none.
    """
    source = f"preset {name!r}"
    return settings_from_table(Preset, {"name": name, **parse_toml(text, source)}, source=source)


def write_preset(preset: Preset, path: str | Path) -> None:
    """Write a `.toml` file that `load_preset` reads back; the preset is then named after the file.

    The file appears complete or not at all.

    Raises:
        InputError: another suffix, a folder that cannot be written, or a full disk.
    """
    path = Path(path)
    if path.suffix != ".toml":
        raise InputError(f"{path}: a preset is a .toml file; end its name with .toml")
    with atomic_output(path) as temporary:
        temporary.write_text(toml_text(preset, leave_out=("name",)), encoding="utf-8")


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        InputError: the file is missing, unreadable or not TOML.
    """
    try:
        return parse_toml(Path(path).read_text(encoding="utf-8-sig"), path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give an existing TOML file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a valid TOML file ({error}); correct that line") from error


def parse_toml(text: str, source: str | Path) -> dict[str, Any]:
    """The tables of a TOML text; `source` is what an error calls it.

    Raises:
        InputError: not TOML.
    """
    try:
        return tomllib.loads(text)
    except ValueError as error:  # also a number of thousands of digits
        raise InputError(f"{source}: not a valid TOML file ({error}); correct that line") from error
    except RecursionError as error:
        raise InputError(f"{source}: not a valid TOML file (nested too deeply); correct it") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The table in a YAML file, see `yaml_text`.

    Raises:
        InputError: the file is missing, unreadable, or holds anything but a table that is read here.
    """
    try:
        table = read_yaml_text(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give an existing YAML file") from error
    except (YamlError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML that settings are read from ({error}); correct that line") from error
    if not isinstance(table, dict):
        raise InputError(f"{path}: holds no table of settings; write lines of `field: value`")
    return table


def settings_from_table(
    kind: type[Settings], table: dict[str, Any], *, source: str | Path, prefix: str = ""
) -> Settings:
    """Build the dataclass `kind` from a TOML table; nested dataclasses and lists of them come from nested tables.

    Args:
        kind: a dataclass; fields without a default must be in the table.
        table: what was read; a key that is no field of `kind` is an error, so that a typing slip is not lost.
        source: the file, for messages.
        prefix: where the table stands in the file, for messages.

    Raises:
        InputError: names the file and the field.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise InputError(f"{source}: unknown field {prefix}{key}; known are {', '.join(fields)}")
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _value(hints[name], table[name], source, f"{prefix}{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f"{source}: field {prefix}{name} is missing; add it")
    try:
        return kind(**values)
    except ValueError as error:
        raise InputError(f"{source}: {prefix}{error}") from error


def _value(hint: Any, value: Any, source: str | Path, field: str) -> Any:
    """`value` as the field's type says, or an InputError naming the field. An integer is accepted where a float is."""
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return settings_from_table(hint, value, source=source, prefix=f"{field}.")  # type: ignore[arg-type]
    if typing.get_origin(hint) is tuple and isinstance(value, (list, tuple)):
        item, *rest = typing.get_args(hint)
        items = [item] * len(value) if rest == [Ellipsis] else [item, *rest]
        if len(items) == len(value):
            each = zip(items, value, strict=True)
            return tuple(_value(kind, entry, source, f"{field}[{i}]") for i, (kind, entry) in enumerate(each))
    if isinstance(hint, types.UnionType) and types.NoneType in typing.get_args(hint):
        if value is None:
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
        return _value(hint, value, source, field)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        return value
    wanted = hint.__name__ if isinstance(hint, type) and not dataclasses.is_dataclass(hint) else "a list or table"
    raise InputError(f"{source}: field {field} must be {wanted}, got {value!r}")
