"""Compares what gitwright showed with what Flux showed, by the rules of the recordings.

Role: pure. Not a difference are, and nothing else:

- text that follows Flux's own message, on lines of its own (two events that differ in it
  alone are one);
- wording of git, kustomize and CEL inside a message: its beginning and the reason must match;
- the message of `Reconciling`; and that condition itself where one side only caught it in
  the moment of progress, since it may be missing from a snapshot then;
- how `Progressing` lines spread over events: they are compared as a set per object;
- the order of events of different objects;
- after a user's edit, one pass less in the history: gitwright repairs at once, by the
  watch, and counts no pass for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.real.snapshots import is_flux, kind_of

JSON = dict[str, Any]
ABSENT: Final = "(absent)"

# Reason -> beginnings after which the words are those of git and kustomize.
_FOREIGN: Final[Mapping[str, tuple[str, ...]]] = {
    "BuildFailed": ("kustomize build failed: ",),
    "GitOperationFailed": ("failed to checkout and determine revision: ",),
}
# Up to its end the words are Flux's; after it, CEL's.
_CEL: Final = re.compile(r"failed to evaluate the CEL expression '.*?': ", re.DOTALL)
_EVENT: Final = re.compile(r"(\S+/\S+) (Normal|Warning) (\w+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that was not as recorded.

    Args:
        path: where in the snapshot, `objects/Kind/name/...` or `events/Kind/name[/Progressing]`.
        recorded: what Flux showed, `ABSENT` for nothing.
        shown: what gitwright showed.
    """

    path: str
    recorded: Any
    shown: Any

    def __str__(self) -> str:
        recorded, shown = (json.dumps(item, ensure_ascii=False) for item in (self.recorded, self.shown))
        return f"{self.path}\n    recorded: {recorded}\n    shown:    {shown}"


@dataclass(frozen=True, slots=True)
class Allowed:
    """One difference that is meant: where gitwright is better.

    Args:
        recording: its name.
        snapshot: its label.
        path: as in `Difference`.
        shown: the exact value that gitwright shows there.
        why: why it is better, for people.
    """

    recording: str
    snapshot: str
    path: str
    shown: Any
    why: str


def compare(recorded: JSON, shown: JSON, *, edited: bool = False) -> list[Difference]:
    """Compare two snapshots.

    Args:
        recorded: `{"objects": {...}, "events": [...]}` of the recording.
        shown: the same of gitwright, normalised.
        edited: a user edited managed objects before (`edited_before`).
    """
    found = [*_objects(recorded["objects"], shown["objects"], edited)]
    found += _events(recorded["events"], shown["events"])
    return found


def judge(
    name: str, differences: Mapping[str, Sequence[Difference]], allowed: Sequence[Allowed]
) -> tuple[list[str], list[Allowed]]:
    """Sort the differences of one recording.

    Args:
        name: of the recording.
        differences: snapshot label -> what differs.
        allowed: what may differ.

    Returns:
        The differences that nothing allows, as text, and the entries that allowed one.
    """
    refused: list[str] = []
    used: list[Allowed] = []
    for label, found in differences.items():
        for difference in found:
            matching = [
                entry
                for entry in allowed
                if (entry.recording, entry.snapshot, entry.path) == (name, label, difference.path)
                and entry.shown == difference.shown
            ]
            used += matching
            if not matching:
                refused.append(f"{label}: {difference}")
    return refused, used


def edited_before(steps: Sequence[JSON], label: str) -> bool:
    """Tell whether a user edits or deletes objects that Flux manages before a snapshot is taken."""
    managed = False
    for step in steps:
        if step.get("snapshot") == label:
            return False
        if "apply" in step and step["apply"]["kind"] == "Kustomization":
            managed = True
        ref = step["patch"]["ref"] if "patch" in step else step.get("delete", "")
        if managed and ref and not is_flux(kind_of(ref.partition("/")[0])):
            return True
    return False


def same_message(recorded: str, shown: str, reason: str) -> bool:
    """Tell whether a message says what Flux's says.

    Args:
        recorded: Flux's.
        shown: gitwright's; it may go on after Flux's text on lines of its own.
        reason: of the condition or event.
    """
    for beginning in _FOREIGN.get(reason, ()):
        if recorded.startswith(beginning):
            return shown.startswith(beginning) and len(shown) > len(beginning)
    cel = _CEL.search(recorded)
    if cel:
        return shown.startswith(recorded[: cel.end()])
    return _begins_with(shown, recorded)


def _begins_with(shown: str, recorded: str) -> bool:
    """Tell whether a text is another one, or goes on after it on lines of its own."""
    if not shown.startswith(recorded):
        return False
    rest = shown[len(recorded) :]
    return not rest or recorded.endswith("\n") or rest.startswith("\n")


def _objects(recorded: JSON, shown: JSON, edited: bool) -> Iterator[Difference]:
    for key in sorted(recorded.keys() | shown.keys()):
        path = f"objects/{key}"
        if key not in shown or key not in recorded:
            yield Difference(path, recorded.get(key, ABSENT), shown.get(key, ABSENT))
            continue
        before, after = dict(recorded[key]), dict(shown[key])
        if is_flux(_api_version(key)):
            statuses = dict(before.pop("status", {})), dict(after.pop("status", {}))
            yield from _status(*statuses, f"{path}/status", edited)
        yield from _values(before, after, path)


def _api_version(key: str) -> str:
    try:
        return kind_of(key.partition("/")[0])
    except KeyError:
        return ""


def _status(recorded: JSON, shown: JSON, path: str, edited: bool) -> Iterator[Difference]:
    conditions = recorded.pop("conditions", []), shown.pop("conditions", [])
    yield from _conditions(*conditions, f"{path}/conditions")
    if edited:
        shown = shown | {"history": _counted(recorded.get("history", []), shown.get("history", []))}
        if not shown["history"] and "history" not in recorded:
            del shown["history"]
    yield from _values(recorded, shown, path)


def _counted(recorded: list[JSON], shown: list[JSON]) -> list[JSON]:
    """Give the history shown, with the pass added that a repair by the watch does not count."""
    found = [dict(entry) for entry in shown]
    for before, after in zip(recorded, found, strict=False):
        if after.get("totalReconciliations", 0) == before.get("totalReconciliations", 0) - 1:
            after["totalReconciliations"] += 1
    return found


def _conditions(recorded: list[JSON], shown: list[JSON], path: str) -> Iterator[Difference]:
    before = {condition["type"]: condition for condition in recorded}
    after = {condition["type"]: condition for condition in shown}
    for kind in sorted(before.keys() | after.keys()):
        one, other = before.get(kind), after.get(kind)
        if one is None or other is None:
            present = one or other or {}
            if not (kind == "Reconciling" and present.get("reason") == "Progressing"):
                yield Difference(f"{path}/{kind}", one or ABSENT, other or ABSENT)
            continue
        one, other = dict(one), dict(other)
        messages = str(one.pop("message", "")), str(other.pop("message", ""))
        yield from _values(one, other, f"{path}/{kind}")
        if kind != "Reconciling" and not same_message(*messages, one.get("reason", "")):
            yield Difference(f"{path}/{kind}/message", *messages)
    orders = [kind for kind in before if kind in after], [kind for kind in after if kind in before]
    if orders[0] != orders[1]:
        yield Difference(f"{path}/order", *orders)


def _values(recorded: Any, shown: Any, path: str) -> Iterator[Difference]:
    if isinstance(recorded, dict) and isinstance(shown, dict):
        for key in sorted(recorded.keys() | shown.keys()):
            yield from _values(recorded.get(key, ABSENT), shown.get(key, ABSENT), f"{path}/{key}")
    elif isinstance(recorded, list) and isinstance(shown, list) and len(recorded) == len(shown):
        for index, pair in enumerate(zip(recorded, shown, strict=True)):
            yield from _values(*pair, f"{path}/{index}")
    elif recorded != shown or type(recorded) is not type(shown):
        yield Difference(path, recorded, shown)


def _events(recorded: Sequence[str], shown: Sequence[str]) -> Iterator[Difference]:
    before, after = _by_object(recorded), _by_object(shown)
    for subject in sorted(before.keys() | after.keys()):
        one, other = before.get(subject, []), after.get(subject, [])
        lines = _progress(one), _progress(other)
        if lines[0] != lines[1]:
            yield Difference(f"events/{subject}/Progressing", *lines)
        rest = _others(one), _without_additions(_others(one), _others(other))
        same = len(rest[0]) == len(rest[1]) and all(map(_same_event, *rest))
        if not same:
            yield Difference(f"events/{subject}", *([" ".join(event) for event in side] for side in rest))


def _by_object(texts: Sequence[str]) -> dict[str, list[tuple[str, str, str]]]:
    found: dict[str, list[tuple[str, str, str]]] = {}
    for text in texts:
        parts = _EVENT.fullmatch(text)
        if parts is None:
            raise ValueError(f"not an event as recordings write them: {text!r}")
        found.setdefault(parts[1], []).append((parts[2], f"{parts[3]}:", parts[4]))
    return found


def _progress(events: Sequence[tuple[str, str, str]]) -> list[str]:
    """Give the lines of all Progressing events, each once, sorted."""
    return sorted(
        {
            f"{kind} {line}"
            for kind, reason, message in events
            if reason == "Progressing:"
            for line in message.splitlines()
        }
    )


def _others(events: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return [event for event in events if event[1] != "Progressing:"]


def _without_additions(
    recorded: Sequence[tuple[str, str, str]], shown: Sequence[tuple[str, str, str]]
) -> list[tuple[str, str, str]]:
    """Give what is shown, each event once by Flux's own text: what follows it makes no other event."""
    found: dict[tuple[str, str, str], tuple[str, str, str]] = {}
    for event in shown:
        same = (known for known in recorded if known[:2] == event[:2] and _begins_with(event[2], known[2]))
        found.setdefault(next(same, event), event)
    return list(found.values())


def _same_event(recorded: tuple[str, str, str], shown: tuple[str, str, str]) -> bool:
    reason = recorded[1].removesuffix(":")
    return recorded[:2] == shown[:2] and same_message(recorded[2], shown[2], reason)
