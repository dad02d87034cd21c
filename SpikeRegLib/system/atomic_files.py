"""Files that appear complete or not at all, and one clear line when a disk is full or a folder may not be written."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from SpikeRegLib.errors import InputError, last_line

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_PROOF_BYTES = 1 << 16


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A hidden path beside `path` with its extension; renamed to `path` if the block succeeds.

    What is replaced outlives a power cut: the new file is on the disk before the name changes. Nothing is left behind
    when the block fails or is interrupted.

    Raises:
        InputError: the folder does not exist or cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = _temporary_beside(path)
    try:
        yield temporary
        prove_space(path.parent)  # ITK can cut a file short without a word
        if os.path.lexists(path):
            flush(temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # SimpleITK reports every failure to write as RuntimeError
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_output(
    path: str | os.PathLike[str], extensions: Sequence[str], inputs: Sequence[str | os.PathLike[str] | None] = ()
) -> None:
    """Make sure that a file can be written, before any work is spent. One that is there may be replaced.

    Args:
        path: of the file.
        extensions: that are known, in lower case.
        inputs: files that are read and must not be replaced.

    Raises:
        InputError: another extension, one of the inputs, a folder, a name that is too long, or a folder that does not
            exist or cannot be written.
    """
    path = Path(path)
    if extension(path) not in extensions:
        raise InputError(f"{path}: unknown file type; use one of {', '.join(extensions)}")
    for given in inputs:
        if given is not None and os.path.exists(path) and os.path.exists(given) and os.path.samefile(path, given):
            raise InputError(f"{path}: is read by this command and would be replaced; give the output another name")
    temporary = _temporary_beside(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # refuses a name that no file can have
        temporary.touch()
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink()


def extension(path: str | os.PathLike[str]) -> str:
    """The lower-case extension; `.nii.gz` counts as one."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def unwritable(path: str | os.PathLike[str], error: Exception, folder: Path | None = None) -> InputError:
    """One line for a file or folder that could not be written: why, and what to do.

    Args:
        path: of it.
        error: what was raised.
        folder: that exists, on the same disk; if not given, the one of `path`.
    """
    if disk_is_full(error, folder or Path(path).parent):
        return InputError(f"{path}: cannot be written, the disk is full; free some space and run again")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else last_line(error)
    return InputError(f"{path}: cannot be written ({reason}); check its permissions or choose another folder")


def disk_is_full(error: BaseException, folder: Path) -> bool:
    """Whether `error`, or what caused it, says so, or nothing more can be written into `folder`."""
    if any(getattr(each, "errno", None) in NO_SPACE for each in (error, error.__cause__)):
        return True
    try:
        prove_space(folder, on_disk=True)
    except OSError as second:
        return second.errno in NO_SPACE
    return False


def prove_space(folder: Path, *, on_disk: bool = False) -> None:
    """Write a little into `folder` and remove it.

    Args:
        folder: that must exist.
        on_disk: wait until it is there, which some file systems need to find out that they are full.

    Raises:
        OSError: it cannot be written, as on a full disk, where ITK's NIfTI writer cuts a file short without a word.
    """
    proof = folder / f".spikereg-{uuid.uuid4().hex[:8]}"
    try:
        proof.write_bytes(bytes(_PROOF_BYTES))
        if on_disk:
            flush(proof)
    finally:
        proof.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _temporary_beside(path: Path) -> Path:
    """A new hidden name in the folder of a file to be written, with its extension and of a length that always fits.

    Raises:
        InputError: the folder does not exist, or the file is one.
    """
    if not os.path.isdir(path.parent):
        raise InputError(f"{path}: cannot be written, the folder {path.parent} does not exist; create it first")
    if os.path.isdir(path):
        raise InputError(f"{path}: cannot be written, it is a folder; give a file name")
    return path.with_name(f".spikereg-{uuid.uuid4().hex[:8]}{extension(path)}")
