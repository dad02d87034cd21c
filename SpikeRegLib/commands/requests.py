"""What `spikereg worker` is asked: one JSON object a line, understood and kept in order until it is done."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from SpikeRegLib.commands import register, segment
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
class SegmentationRequest:
    """An image to segment.

    Attributes:
        id: names it in every event.
        options: as `spikereg segment` parses them.
    """

    id: str
    options: argparse.Namespace


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
    """The parser of a command, whose error is an exception."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


class _Form:
    """What a request for one command may say: its options with underscores.

    Args:
        add_arguments: of the command.
        images: keys of the images, in the order in which the command takes them.
        more: further keys, which are no options of the command.
    """

    def __init__(self, add_arguments: Callable[[argparse.ArgumentParser], None], images: Sequence[str], *more: str):
        self.parser = _OptionParser(add_help=False, allow_abbrev=False)
        add_arguments(self.parser)
        self.images, self.needed = images, ("id", *images, "out")
        self.defaults = vars(self.parser.parse_args(["--out=.", "--", *("." for _ in images)]))
        for name in _LEFT_OUT:
            del self.defaults[name]
        positional = {action.dest for action in self.parser._actions if not action.option_strings}
        options = [name for name in self.defaults if name not in positional]
        self.known = ["id", *images, *options, *more]

    def parsed(self, asked: dict[str, Any]) -> argparse.Namespace:
        """The options as the command parses them.

        Args:
            asked: the request without id and the further keys.

        Raises:
            InputError: a value that the option does not take.
        """
        images = [_text(key, asked[key]) for key in self.images]
        words = [word for key, value in asked.items() if key not in self.images for word in self._option(key, value)]
        return self.parser.parse_args([*words, "--", *images])

    def check_keys(self, asked: dict[str, Any]) -> None:
        """Refuse a key that is unknown or missing.

        Raises:
            InputError: there is one.
        """
        for key in asked:
            if key not in self.known:
                raise InputError(
                    f"unknown key {json.dumps(key)}; known are {', '.join(self.known)}, or cancel, or quit"
                )
        for key in self.needed:
            if key not in asked:
                first, last = ", ".join(self.needed[:-1]), self.needed[-1]
                raise InputError(f"{key}: missing; a request needs {first} and {last}")

    def _option(self, key: str, value: Any) -> list[str]:
        """The option as words of a command line."""
        option = "--" + key.replace("_", "-")
        if isinstance(self.defaults[key], bool):
            if not isinstance(value, bool):
                raise InputError(f"{key}: must be true or false, got {json.dumps(value)}")
            return [option] if value else []
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return [f"{option}={value!r}"]
        return [f"{option}={_text(key, value)}"]


class Understanding:
    """Turns objects into requests: the keys are the options of `spikereg register` or `segment` with underscores."""

    def __init__(self) -> None:
        self._registration = _Form(register.add_arguments, ("fixed", "moving"), "outputs")
        self._segmentation = _Form(segment.add_arguments, ("segment",))

    def __call__(self, table: dict[str, Any]) -> Request | SegmentationRequest | Cancel | Quit:
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
        form = self._segmentation if "segment" in asked else self._registration
        form.check_keys(asked)
        identity = _text("id", asked.pop("id"))
        if form is self._segmentation:
            return SegmentationRequest(identity, form.parsed(asked))
        outputs = _names(asked.pop("outputs")) if "outputs" in asked else None
        return Request(identity, form.parsed(asked), outputs)


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
        self._waiting: dict[str, Request | SegmentationRequest] = {}
        self._running = ""
        self._closed = False

    def put(self, request: Request | SegmentationRequest) -> None:
        """Lay a request down.

        Raises:
            InputError: one of the same id is waiting or running.
        """
        with self._changed:
            if request.id in self._waiting or request.id == self._running:
                raise InputError("id: a request of this id is waiting or running; give another id")
            self._waiting[request.id] = request
            self._changed.notify()

    def take(self) -> Request | SegmentationRequest | None:
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
