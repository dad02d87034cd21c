"""Files of a run put into a folder all together or not at all, also when the process is killed on the way.

The new files are complete in a hidden folder first. Where they meet a folder that is there already, a journal in the
hidden folder says what is about to move: the replaced files go into the hidden folder one by one, then the new ones
come out, in an order whose last file makes the set count. Whoever finds such a journal, by its lock of no living
process, knows what to do: with the last file in place the new set is whole and the rest is thrown away; without it
every move is undone. Nothing of either set is deleted before that is known.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from SpikeRegLib.errors import InputError
from SpikeRegLib.system.atomic_files import flush

_HIDDEN = re.compile(r"\.spikereg-[0-9a-f]{8}")
_JOURNAL = ".journal.json"
_REPLACED = ".replaced"
_LOCK = ".spikereg-lock"
_PATIENCE_S = 30.0
# A writing process touches its hidden folder every few seconds; one that was killed, never again.
_LEFT_BEHIND_S = 300.0
# On Windows a scanner for viruses may hold a new file for a moment.
_RETRIES, _RETRY_S = (20, 0.05) if os.name == "nt" else (0, 0.0)


def hidden_beside(folder: Path) -> Path:
    """A new hidden name on the file system of `folder`: in it where it exists, else in its nearest existing parent."""
    home = folder.absolute()
    while not os.path.exists(home) and home != home.parent:
        home = home.parent
    return home / f".spikereg-{uuid.uuid4().hex[:8]}"


def sweep(staging: Path) -> None:
    """Remove hidden folders beside `staging` that killed processes left behind, unless they hold what to put back."""
    now = staging.stat().st_mtime  # by the clock of the file system
    for left in staging.parent.iterdir():
        if not _HIDDEN.fullmatch(left.name) or left == staging or os.path.lexists(left / _JOURNAL):
            continue
        with suppress(OSError):  # gone by itself, or not ours
            if now - max(path.stat().st_mtime for path in (left, *left.rglob("*"))) > _LEFT_BEHIND_S:
                shutil.rmtree(left)


def settle(folder: str | os.PathLike[str]) -> None:
    """Finish or undo what a process that was killed while it put files into `folder` has left there.

    Nothing happens where there is nothing to do. A process that is at it is waited for.

    Raises:
        InputError: the folder cannot be written, or a file that came later lies in the way; nothing is lost.
    """
    folder = Path(folder)
    if not _interrupted(folder):
        return
    try:
        with _held(folder):
            for staging in _interrupted(folder):
                _settle(staging, folder)
    except OSError as error:
        raise InputError(
            f"{error.filename or folder}: a run was killed while it put its results into {folder}, and they cannot be "
            f"put in order ({error.strerror}); close what uses the folder, allow writing there and try again"
        ) from error


def put_in_place(staging: Path, folder: Path, replaced: Callable[[Path], Sequence[str]], names: Sequence[str]) -> None:
    """Move files from a hidden folder into `folder`, which afterwards holds all of them or is as it was.

    Args:
        staging: holds the files; gone afterwards.
        folder: made if it is not there; other files in it stay.
        replaced: says which files of the folder the new ones stand instead of, those first without which the others
            do not count; raises InputError where something else is in the way. Names are as in `names`.
        names: of the new files, below `staging`, with slashes; the last one makes the set count.

    Raises:
        InputError: something is in the way.
        OSError: a file could not be moved; the folder is as it was.
    """
    if not os.path.exists(folder):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.rename(staging, folder)
            return
        except OSError:
            if not folder.is_dir():  # else somebody made it meanwhile
                shutil.rmtree(staging, ignore_errors=True)
                raise
    try:
        if staging.parent != folder.absolute():
            inside = folder.absolute() / staging.name
            os.rename(staging, inside)
            staging = inside
        with _held(folder):
            for left in _interrupted(folder):
                _settle(left, folder)
            old = replaced(folder)
            for name in names:
                if name not in old and os.path.lexists(folder / name):
                    raise _in_the_way(folder / name)
            journal = _Journal(tuple(old), {name: _mark(staging / name) for name in names})
            journal.write(staging)
            _exchange(journal, staging, folder)
    finally:
        if not os.path.lexists(staging / _JOURNAL):
            shutil.rmtree(staging, ignore_errors=True)


def _exchange(journal: _Journal, staging: Path, folder: Path) -> None:
    try:
        for name in journal.old:
            _move(name, folder, staging / _REPLACED)
        for name in journal.new:
            _move(name, staging, folder)
    except BaseException as error:
        try:
            _settle(staging, folder)
        except (OSError, InputError) as second:
            reason = second.strerror if isinstance(second, OSError) else second
            raise InputError(
                f"{folder}: the new results could not be put there, nor could all that was there be put back "
                f"({getattr(second, 'filename', None) or folder}: {reason}); nothing is lost: close what uses the "
                f"folder and run again, or look into {staging}"
            ) from error
        raise
    _settle(staging, folder)


@dataclass(frozen=True)
class _Journal:
    """What is about to move.

    Attributes:
        old: names of the files that are replaced, in the order in which they leave.
        new: name -> size and time of change of the files that come, in that order.
    """

    old: tuple[str, ...]
    new: dict[str, tuple[int, int]]

    def write(self, staging: Path) -> None:
        """Put the journal into the hidden folder, whole, and on the disk before anything moves."""
        if self.old:  # they will be deleted: what replaces them has to outlive a power cut, too
            for name in self.new:
                flush(staging / name)
        part = staging / f"{_JOURNAL}.part"
        part.write_text(json.dumps({"old": self.old, "new": self.new}), encoding="utf-8")
        flush(part)
        os.rename(part, staging / _JOURNAL)

    @classmethod
    def read(cls, staging: Path) -> _Journal:
        try:
            table = json.loads((staging / _JOURNAL).read_text(encoding="utf-8"))
            old, new = table["old"], {name: (int(mark[0]), int(mark[1])) for name, mark in table["new"].items()}
            if not new or not all(_stays_below(name) for name in (*old, *new)):
                raise ValueError("not the names of files")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise InputError(
                f"{staging / _JOURNAL}: cannot be read ({error}); move {staging} away, it may hold earlier results"
            ) from error
        return cls(tuple(old), new)

    def is_done(self, staging: Path, folder: Path) -> bool:
        """Whether the file that makes the new set count is in its place."""
        last = next(reversed(self.new))
        return not os.path.lexists(staging / last) and _is(folder / last, self.new[last])


def _settle(staging: Path, folder: Path) -> None:
    """Undo the moves, or if all were made drop what was replaced; can itself be interrupted and done again."""
    journal = _Journal.read(staging)
    if not journal.is_done(staging, folder):
        for name, mark in reversed(journal.new.items()):
            if not os.path.lexists(staging / name) and os.path.lexists(folder / name):
                if not _is(folder / name, mark):
                    raise _in_the_way(folder / name)
                _move(name, folder, staging)
        for name in reversed(journal.old):
            if os.path.lexists(staging / _REPLACED / name):
                if os.path.lexists(folder / name):
                    raise _in_the_way(folder / name)
                _move(name, staging / _REPLACED, folder)
    with suppress(OSError):  # without a journal it is swept some day; with it, settled again
        os.unlink(staging / _JOURNAL)
        shutil.rmtree(staging)


def _interrupted(folder: Path) -> list[Path]:
    """Hidden folders with a journal."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        return sorted(
            path
            for path in folder.iterdir()
            if _HIDDEN.fullmatch(path.name) and not path.is_symlink() and os.path.lexists(path / _JOURNAL)
        )
    return []


def _move(name: str, source: Path, target: Path) -> None:
    """Rename one file; folders below `source` and `target` are made, and removed once empty."""
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(_RETRIES + 1):
        try:
            os.rename(source / name, target / name)
            break
        except PermissionError:
            if attempt == _RETRIES:
                raise
            time.sleep(_RETRY_S)
    if "/" in name:
        with suppress(OSError):
            (source / name).parent.rmdir()


def _in_the_way(path: Path) -> InputError:
    return InputError(f"{path}: lies where a result goes, and is none; move it elsewhere and run again")


def _mark(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_size, found.st_mtime_ns


def _is(path: Path, mark: tuple[int, int]) -> bool:
    """Whether the file is the one of this mark, which moving does not change."""
    try:
        return _mark(path) == mark
    except OSError:
        return False


def _stays_below(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and not set(name) & set("\\:\0")


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The lock of the folder: one process at a time moves files in it. That of a killed process is free."""
    path, end = folder / _LOCK, time.monotonic() + _PATIENCE_S
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            if os.name != "nt":  # there, a file that is being deleted cannot be opened
                raise
        else:
            if _lock(handle) and _is_still(path, handle):
                break
            os.close(handle)
        if time.monotonic() > end:
            raise InputError(f"{folder}: another run is putting its results there; wait for its end and run again")
        time.sleep(0.02)
    try:
        yield
    finally:
        if os.name != "nt":
            with suppress(OSError):
                os.unlink(path)
        os.close(handle)
        if os.name == "nt":
            with suppress(OSError):  # somebody waits for it
                os.unlink(path)


def _lock(handle: int) -> bool:
    """Whether the open file is ours alone now; also where the file system has no locks."""
    if os.name == "nt":
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_still(path: Path, handle: int) -> bool:
    """Whether the path still names the open file: who held it before has deleted it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except OSError:
        return False
