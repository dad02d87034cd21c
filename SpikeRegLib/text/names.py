"""Names: words of a file, a scene or a model that become part of a path, and hence may not be one."""

from __future__ import annotations

LONGEST = 100
_FORBIDDEN = frozenset('/\\:*?"<>|')


def is_name(text: str) -> bool:
    """Whether a text is fit for a file's name on every system: no path, no control characters, no hidden file."""
    return (
        0 < len(text) <= LONGEST
        and text.isprintable()
        and not _FORBIDDEN & set(text)
        and text[0] not in ". "
        and text[-1] not in ". "
    )


def check_name(field: str, text: str) -> None:
    """Refuse a text that is no name.

    Raises:
        ValueError: names the field and the text.
    """
    if not is_name(text):
        shown = text if len(text) <= LONGEST else text[:LONGEST] + "..."
        raise ValueError(
            f"{field}: must be a name of up to {LONGEST} letters, digits and the like, without any of "
            f'/ \\ : * ? " < > |, got {shown!r}'
        )
