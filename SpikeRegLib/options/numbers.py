"""The range of every number that a command takes, and the check of one."""

from __future__ import annotations

from SpikeRegLib.errors import InputError
from SpikeRegLib.options import groups
from SpikeRegLib.options.option import options_of
from SpikeRegLib.text.ranges import PERCENTILE, TRAINING_STEPS, Range, whole, within_all

# Of `register` and of requests to the worker, as their groups say; then those of other commands.
NUMBERS: dict[str, Range] = {
    **{
        option.name: option.limits
        for group in vars(groups).values()
        if isinstance(group, type)
        for option in (options_of(group) if group.__module__ == groups.__name__ else ())
        if option.limits is not None
    },
    "spacing": (0.1, 64),
    "shape": (16, 4096),
    "picojoules": (1e-9, 1e9),
    "percentile": PERCENTILE,
    "steps": TRAINING_STEPS,
    "path_steps": (1, 10_000),
}


def check_number(name: str, value: float | None) -> None:
    """Refuse an option out of its range; None is not given.

    Raises:
        InputError: names the option as the command has it.
    """
    if value is None:
        return
    limits = NUMBERS[name]
    try:
        within_all(f"--{name.replace('_', '-')}", [value], limits, whole_numbers=whole(limits))
    except ValueError as error:
        raise InputError(str(error)) from error
