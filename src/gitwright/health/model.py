"""The verdict on an object, and reading what it is based on.

Role in the flow: shared by the rules of all kinds. A field of an unexpected type is
treated as kstatus treats it: counters and texts as absent, generations and conditions
as a reason to judge nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from gitwright.core.objects import JSON

Status = Literal["Current", "InProgress", "Failed", "Terminating", "NotFound", "Unknown"]


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of an object's health.

    Args:
        status: kstatus's word for it.
        message: the cause, for people. With `Unknown` it is the error, as Flux shows it.
        again_in: seconds after which the same object must be looked at again though nothing
            about it changes; None where only a change can change the verdict.
    """

    status: Status
    message: str = ""
    again_in: float | None = None

    @property
    def ready(self) -> bool:
        """Whether nothing more is awaited of the object."""
        return self.status == "Current"


class Unreadable(Exception):
    """The object cannot be judged because a field is not of the type it must have."""


class Condition(NamedTuple):
    """One condition of an object's status."""

    type: str
    status: str
    reason: str
    message: str


def current(message: str) -> Health:
    """The object is as it should be."""
    return Health("Current", message)


def in_progress(message: str) -> Health:
    """The object is on its way."""
    return Health("InProgress", message)


def failed(message: str) -> Health:
    """The object will not get there without a change."""
    return Health("Failed", message)


def find(obj: Any, *path: str) -> Any:
    """Give the value at a path, or None where anything on it is missing or no map."""
    for name in path:
        if not isinstance(obj, Mapping):
            return None
        obj = obj.get(name)
    return obj


def number(obj: JSON, *path: str, default: int = 0) -> int:
    """Give the whole number at a path; `default` where there is none."""
    value = find(obj, *path)
    return value if type(value) is int else default


def text(obj: JSON, *path: str, default: str = "") -> str:
    """Give the text at a path; `default` where there is none."""
    value = find(obj, *path)
    return value if isinstance(value, str) else default


def generation(obj: JSON, *path: str) -> int | None:
    """Give the generation at a path, or None where it is missing.

    Raises:
        Unreadable: there is something else.
    """
    value: Any = obj
    for name in path:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise Unreadable(f"looking up {'.'.join(path)} from resource: {value!r} is not a map")
        if name not in value:
            return None
        value = value[name]
    if type(value) is not int:
        raise Unreadable(f"looking up {'.'.join(path)} from resource: {value!r} is not a whole number")
    return value


def conditions(obj: JSON) -> list[Condition]:
    """Give the conditions in the order they stand.

    Raises:
        Unreadable: they are no list of conditions.
    """
    status = obj.get("status")
    if status is None:
        return []
    if not isinstance(status, Mapping):
        raise Unreadable("status is not a map")
    items = status.get("conditions")
    if items is None:
        return []
    if not isinstance(items, list):
        raise Unreadable("status.conditions is not a list")
    return [_condition(item) for item in items]


def _condition(item: Any) -> Condition:
    item = {} if item is None else item
    if not isinstance(item, Mapping):
        raise Unreadable("status.conditions has an item that is not a map")
    fields = ["" if item.get(name) is None else item[name] for name in Condition._fields]
    for name, value in zip(Condition._fields, fields, strict=True):
        if not isinstance(value, str):
            raise Unreadable(f"status.conditions has an item whose {name} is not a text")
    return Condition(*fields)


def because(text_: str, cause: str) -> str:
    """Put a cause behind a message, where there is one."""
    return f"{text_}: {cause}" if cause else text_


def said(items: list[Condition], kind: str, status: str) -> str:
    """Give the message of the condition with that type and status, or empty."""
    return next((item.message for item in items if item.type == kind and item.status == status), "")
