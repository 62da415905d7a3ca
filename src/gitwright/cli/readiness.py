"""When a request has been handled, and what came of it.

Role in the flow: `reconcile` and `resume` look at each state of an object that the
watch brings and ask here whether it is the answer. Pure.

Source: Flux's ReconcileRequestStatus; kstatus: a condition speaks for the
generation it was observed at.
"""

from __future__ import annotations

from dataclasses import dataclass

from gitwright.api.meta import REQUESTED_AT
from gitwright.cli.kinds import nested
from gitwright.core import conditions
from gitwright.core.objects import JSON


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an object says of its present generation.

    Args:
        ready: its Ready condition is True.
        message: the condition's message.
    """

    ready: bool
    message: str


def verdict(obj: JSON) -> Verdict | None:
    """Give what the Ready condition says of the present generation; None while it says nothing final."""
    status = obj.get("status") or {}
    found = conditions.get(status.get("conditions") or [], conditions.READY)
    if found is None or found.get("status") not in ("True", "False"):
        return None
    # Some kinds do not write the generation into each condition; the object's own then counts, as in Flux.
    observed = found.get("observedGeneration") or status.get("observedGeneration") or 0
    if observed != nested(obj, "metadata", "generation"):
        return None
    return Verdict(found["status"] == "True", str(found.get("message", "")))


def handled(obj: JSON, requested: str) -> bool:
    """Tell whether a request has been handled, or a later one in its place.

    Args:
        obj: the object as it is now.
        requested: the value that was written to the annotation.
    """
    last = nested(obj, "status", "lastHandledReconcileAt")
    if last == requested:
        return True
    present = nested(obj, "metadata", "annotations", REQUESTED_AT)
    return bool(last) and present != requested and last == present


def progress(obj: JSON) -> str:
    """Say in a few words how far an object is, for whoever waits."""
    listed = nested(obj, "status", "conditions") or []
    for kind in (conditions.RECONCILING, conditions.STALLED, conditions.READY):
        found = conditions.get(listed, kind)
        if found is not None and found.get("message"):
            return str(found["message"])
    return "waiting to be reconciled"
