"""Names of files as ITK takes them: UTF-8, or the process is aborted."""

from __future__ import annotations

import os

from SpikeRegLib.errors import InputError


def itk_name(path: str | os.PathLike[str]) -> str:
    """The path as text for a call of SimpleITK.

    Raises:
        InputError: it is not UTF-8.
    """
    text = os.fspath(path)
    check_utf8(text)
    return text


def check_utf8(text: str) -> None:
    """Refuse a path, or a word of a command line that may be one, that is not UTF-8.

    Raises:
        InputError: shows it with the other bytes as escapes.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise InputError(f"{shown}: the name is not UTF-8; rename the file or folder") from error
