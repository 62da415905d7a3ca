"""Conditions of an object's status: read, set, remove, put in order.

Pure: conditions are plain dictionaries as the API has them; every function gives
a new list. Source: metav1.Condition; Flux's runtime/conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Condition = dict[str, Any]

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
HEALTHY = "Healthy"

# The API server refuses a longer message, and with it the whole status.
# Source: metav1.Condition; Flux's runtime/conditions, which cuts it in this way.
LONGEST_MESSAGE = 32768

# kubectl shows conditions as they stand, so Flux puts those of kstatus first.
_WEIGHT = {STALLED: 0, RECONCILING: 1, READY: 2}


def get(conditions: Iterable[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    """Find the condition of a type, or None."""
    return next((condition for condition in conditions if condition.get("type") == kind), None)


def is_true(conditions: Iterable[Mapping[str, Any]], kind: str) -> bool:
    """Tell whether the condition exists with status True."""
    found = get(conditions, kind)
    return found is not None and found.get("status") == "True"


def put(
    conditions: Iterable[Mapping[str, Any]],
    kind: str,
    status: str,
    reason: str,
    message: str,
    *,
    generation: int,
    now: str,
) -> list[Condition]:
    """Set one condition; `lastTransitionTime` moves only when it really changes.

    As Flux does it, a change of status, reason or message counts as one, and a message
    that is too long for the API server is cut.

    Args:
        conditions: the conditions so far.
        kind: the condition's type.
        status: `True`, `False` or `Unknown`.
        reason: one word in CamelCase.
        message: for people.
        generation: the object's generation this was observed at.
        now: RFC 3339 time to the second, in UTC.
    """
    wanted: Condition = {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": _cut(message),
        "observedGeneration": generation,
        "lastTransitionTime": now,
    }
    kept = [dict(condition) for condition in conditions if condition.get("type") != kind]
    old = get(conditions, kind)
    if old is not None and all(old.get(field) == wanted[field] for field in ("status", "reason", "message")):
        wanted["lastTransitionTime"] = old.get("lastTransitionTime", now)
    return ordered([*kept, wanted])


def _cut(message: str) -> str:
    return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 3] + "..."


def drop(conditions: Iterable[Mapping[str, Any]], *kinds: str) -> list[Condition]:
    """Remove conditions by type."""
    return [dict(condition) for condition in conditions if condition.get("type") not in kinds]


def ordered(conditions: Iterable[Mapping[str, Any]]) -> list[Condition]:
    """Put conditions in Flux's order: Stalled, Reconciling, Ready, then newest observed, then by type."""
    return sorted((dict(condition) for condition in conditions), key=_rank)


def _rank(condition: Condition) -> tuple[int, int, str]:
    kind = str(condition["type"])
    if kind in _WEIGHT:
        return (_WEIGHT[kind], 0, "")
    return (len(_WEIGHT), -int(condition.get("observedGeneration") or 0), kind)
