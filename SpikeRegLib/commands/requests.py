"""What `spikereg worker` is asked: one JSON object a line, understood and kept in order until it is done."""

from __future__ import annotations

import argparse
import json
import threading
from dataclasses import dataclass
from typing import Any, NoReturn

from SpikeRegLib.commands import register
from SpikeRegLib.errors import InputError
from SpikeRegLib.outputs.accounts import OUTPUT_NAMES
from SpikeRegLib.system import interrupt
from SpikeRegLib.text.json_text import read_json

# Options of the command that have no meaning for a request.
_LEFT_OUT = ("progress",)


@dataclass(frozen=True)
class Request:
    """A registration to make.

    Attributes:
        id: names it in every event.
        options: as `spikereg register` parses them.
        outputs: names of the files wanted; None for all.
    """

    id: str
    options: argparse.Namespace
    outputs: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Cancel:
    """Stop a request that runs, or forget one that waits."""

    id: str


@dataclass(frozen=True)
class Quit:
    """Stop whatever runs, forget what waits, and end."""


def read_object(line: bytes) -> dict[str, Any]:
    """The JSON object on a line.

    Raises:
        InputError: it is something else.
    """
    try:
        found = read_json(line)
    except ValueError as error:
        raise InputError(f"not a line of JSON ({error}); send one object a line") from error
    if not isinstance(found, dict):
        raise InputError(f"a JSON {type(found).__name__} where an object is expected; send one object a line")
    return found


class _OptionParser(argparse.ArgumentParser):
    """The parser of `spikereg register`, whose error is an exception."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


class Understanding:
    """Turns objects into requests: the keys are the options of `spikereg register` with underscores."""

    def __init__(self) -> None:
        self._parser = _OptionParser(add_help=False, allow_abbrev=False)
        register.add_arguments(self._parser)
        self._defaults = vars(self._parser.parse_args(["--out=.", "--", ".", "."]))
        for name in _LEFT_OUT:
            del self._defaults[name]

    def __call__(self, table: dict[str, Any]) -> Request | Cancel | Quit:
        """What an object asks for.

        Raises:
            InputError: an unknown or missing key, or a value that the option does not take.
        """
        if "quit" in table:
            _only(table, "quit")
            if table["quit"] is not True:
                raise InputError(f"quit: must be true, got {json.dumps(table['quit'])}")
            return Quit()
        if "cancel" in table:
            _only(table, "cancel")
            return Cancel(_text("cancel", table["cancel"]))
        asked = {key: value for key, value in table.items() if value is not None}
        for key in asked:
            if key not in ("id", "outputs", *self._defaults):
                known = ", ".join(["id", *self._defaults, "outputs"])
                raise InputError(f"unknown key {json.dumps(key)}; known are {known}, or cancel, or quit")
        for key in ("id", "fixed", "moving", "out"):
            if key not in asked:
                raise InputError(f"{key}: missing; a request needs id, fixed, moving and out")
        identity = _text("id", asked.pop("id"))
        images = [_text(key, asked.pop(key)) for key in ("fixed", "moving")]
        outputs = _names(asked.pop("outputs")) if "outputs" in asked else None
        words = [word for key, value in asked.items() for word in self._option(key, value)]
        return Request(identity, self._parser.parse_args([*words, "--", *images]), outputs)

    def _option(self, key: str, value: Any) -> list[str]:
        """The option as words of a command line."""
        option = "--" + key.replace("_", "-")
        if isinstance(self._defaults[key], bool):
            if not isinstance(value, bool):
                raise InputError(f"{key}: must be true or false, got {json.dumps(value)}")
            return [option] if value else []
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return [f"{option}={value!r}"]
        return [f"{option}={_text(key, value)}"]


def _only(table: dict[str, Any], key: str) -> None:
    if len(table) > 1:
        others = ", ".join(name for name in table if name != key)
        raise InputError(f"{key}: stands alone in its object, but there is also {others}")


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value or not _encodable(value):
        raise InputError(f"{key}: must be a text, got {json.dumps(value)}")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(name in OUTPUT_NAMES for name in value):
        raise InputError(f"outputs: must be a list of {', '.join(OUTPUT_NAMES)}; got {json.dumps(value)}")
    return tuple(value)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False
    return True


class Desk:
    """Requests in the order they came: one thread lays them down and cancels, another takes and does them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[str, Request] = {}
        self._running = ""
        self._closed = False

    def put(self, request: Request) -> None:
        """Lay a request down.

        Raises:
            InputError: one of the same id is waiting or running.
        """
        with self._changed:
            if request.id in self._waiting or request.id == self._running:
                raise InputError("id: a request of this id is waiting or running; give another id")
            self._waiting[request.id] = request
            self._changed.notify()

    def take(self) -> Request | None:
        """The next request, once there is one; None when no more will come."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            interrupt.begin()
            if not self._waiting:
                return None
            self._running = next(iter(self._waiting))
            return self._waiting.pop(self._running)

    def done(self) -> None:
        """What was taken is done, whatever is cancelled from now on; its id may be given again."""
        with self._changed:
            self._running = ""

    def cancel(self, identity: str) -> bool:
        """Forget a request that waits and return True; ask one that runs to stop. One that is done stays done."""
        with self._changed:
            if identity and identity == self._running:
                interrupt.ask()
            return self._waiting.pop(identity, None) is not None

    def close(self) -> None:
        """No more requests will come; those that are there are done."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def stop(self) -> None:
        """Forget what waits, ask what runs to stop, and close."""
        with self._changed:
            self._waiting.clear()
            if self._running:
                interrupt.ask()
            self.close()
