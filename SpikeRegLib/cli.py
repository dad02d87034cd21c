"""The `spikereg` command: finds the command named, runs it, and turns every end into one line and an exit code.

Exit codes: 0 done, 1 the run failed, 2 the input cannot be used, 130 cancelled. torch is imported by the commands that
need it, while they run, so that `spikereg --help` answers at once.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib
import itertools
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from SpikeRegLib import __version__
from SpikeRegLib.commands import COMMANDS, streams
from SpikeRegLib.errors import Cancelled
from SpikeRegLib.system import interrupt
from SpikeRegLib.system.allocator import keep_freed_memory
from SpikeRegLib.system.endings import explain
from SpikeRegLib.system.itk_names import check_utf8


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
    interrupt.watch_signals()
    try:
        for word in arguments:
            check_utf8(word)
        options = build_parser(arguments).parse_args([word for word in arguments if word != "--debug"])
        code = int(importlib.import_module(COMMANDS[options.command].module).run(options))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in arguments:
            traceback.print_exc()
        if isinstance(error, BrokenPipeError):  # nobody reads what this command prints, or its message
            streams.drop("stdout")
            return 0 if interrupt.committed() else Cancelled.exit_code
        code, message = explain(error)
        _report(code, " ".join(message.split()), as_json=_wants_json(arguments))
        return code


def _report(code: int, message: str, *, as_json: bool) -> None:
    streams.say_error(f"spikereg: {'' if code == Cancelled.exit_code else 'error: '}{message}")
    if as_json:
        from SpikeRegLib.commands.events import emit

        emit("error", message=message, code=code)


def _wants_json(arguments: Sequence[str]) -> bool:
    return "--progress=json" in arguments or ("--progress", "json") in itertools.pairwise(arguments)


def wait_passively() -> None:
    """Let the threads of OpenMP sleep while they wait; for processes that have not loaded torch, which reads this once.

    Otherwise they spin, and on a machine whose cores are taken each step waits for threads that burn their share.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def entry() -> NoReturn:
    """`main` as a process of its own, which ends at once: taking torch down object by object costs half a second."""
    streams.hold()
    wait_passively()
    if "worker" not in sys.argv[1:2]:  # which waits most of its time
        keep_freed_memory()
    try:
        code = main()
    except SystemExit as end:  # argparse's way out
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or absent as under pythonw
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    entry()
