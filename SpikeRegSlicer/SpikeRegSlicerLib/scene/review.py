"""The decision of the person who looked at a registration, kept on its transform node and saved with the scene."""

from __future__ import annotations

import datetime
import json
from urllib.parse import quote, unquote

ACCEPTED, REJECTED = "accepted", "rejected"
_ATTRIBUTE = "SpikeReg.Review"


def setReview(transformNode, decision: str, reviewer: str, note: str = "") -> None:
    """Record a decision; an earlier one is replaced.

    Args:
        decision: "accepted" or "rejected".
        reviewer, note: any text.

    Raises:
        ValueError: another decision.
    """
    if decision not in (ACCEPTED, REJECTED):
        raise ValueError(f'decision must be "{ACCEPTED}" or "{REJECTED}", got "{decision}"')
    time = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    record = {"decision": decision, "reviewer": reviewer, "note": note, "time": time}
    # Percent signs keep quotes, separators and line breaks safe in the scene's XML attributes.
    transformNode.SetAttribute(_ATTRIBUTE, quote(json.dumps(record)))


def review(transformNode) -> dict[str, str] | None:
    """The recorded `decision`, `reviewer`, `note` and `time` (ISO 8601, UTC); None where none is whole."""
    try:
        record = json.loads(unquote(transformNode.GetAttribute(_ATTRIBUTE) or "null"))
    except ValueError:
        return None
    fields = ("decision", "reviewer", "note", "time")
    if not isinstance(record, dict) or not all(isinstance(record.get(name), str) for name in fields):
        return None
    return record if record["decision"] in (ACCEPTED, REJECTED) else None


def clearReview(transformNode) -> None:
    """Forget the decision, as a new result on the same node requires."""
    transformNode.RemoveAttribute(_ATTRIBUTE)
