"""`register()` and its stages: prepare, align, predict, refine, finish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from SpikeRegLib.pipeline.engine import register

__all__ = ["register"]


def __getattr__(name: str) -> Any:
    """Load torch with the first use, not with the import of a part that does without."""
    if name != "register":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from SpikeRegLib.pipeline.engine import register

    return register
