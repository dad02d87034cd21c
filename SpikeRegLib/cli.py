"""The `spikereg` command: finds the command named, runs it, and turns every end into one line and an exit code.

Exit codes: 0 done, 1 the run failed, 2 the input cannot be used, 130 cancelled. torch is imported by the commands that
need it, while they run, so that `spikereg --help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from SpikeRegLib import __version__
from SpikeRegLib.commands import COMMANDS
from SpikeRegLib.errors import Cancelled, InputError, SpikeRegError
from SpikeRegLib.interrupt import cancelled, watch_signals


class _Parser(argparse.ArgumentParser):
    """A parser whose error is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all commands; only the command that `arguments` name gets its options, so only it is imported."""
    parser = _Parser(
        prog="spikereg",
        description="Deformable registration of medical images with spiking neural networks.",
        epilog="`spikereg COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"spikereg {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    wanted = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=command.summary,
            description=command.summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == wanted:
            importlib.import_module(command.module).add_arguments(subparser)
            subparser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `spikereg` with `argv` (default: the process's) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    watch_signals()
    try:
        options = build_parser(arguments).parse_args(arguments)
        return int(importlib.import_module(COMMANDS[options.command].module).run(options))
    except (Exception, KeyboardInterrupt) as error:
        code, message = _explain(error)
        if debug:
            traceback.print_exc()
        return _fail(code, message, as_json=_wants_json(arguments))


def _explain(error: BaseException) -> tuple[int, str]:
    """Exit code and one line for whatever ended the run."""
    if cancelled() or isinstance(error, (KeyboardInterrupt, Cancelled, BrokenPipeError)):
        return Cancelled.exit_code, "cancelled; nothing was written"
    if isinstance(error, SpikeRegError):
        return error.exit_code, str(error)
    if isinstance(error, MemoryError):
        return 1, "not enough memory; close other programs, or use a preset with a larger working_spacing_mm"
    if isinstance(error, OSError) and error.filename:
        return InputError.exit_code, f"{error.filename}: {error.strerror}; check the path"
    return 1, f"unexpected {type(error).__name__}: {error}; run again with --debug to see where"


def _wants_json(arguments: Sequence[str]) -> bool:
    return "--progress=json" in arguments or "--progress json" in " ".join(arguments)


def _fail(code: int, message: str, *, as_json: bool) -> int:
    line = " ".join(message.split())
    try:
        if as_json:
            from SpikeRegLib.commands.events import emit

            emit("error", message=line, code=code)
        print(f"spikereg: {line}" if code == Cancelled.exit_code else f"spikereg: error: {line}", file=sys.stderr)
    except BrokenPipeError:  # nobody reads any more: keep Python from complaining when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


if __name__ == "__main__":
    sys.exit(main())
