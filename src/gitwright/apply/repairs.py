"""Repairs of drift: when the next one is due, so that no war starts.

Pure: times enter by argument. The first repair is immediate; the third of one field
within a minute begins to back off, exponentially up to the object's interval
(design, section 4, "No wars").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gitwright.core.objects import ObjectKey

FREE = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a repair may be made now.

    Args:
        wait: seconds until it may; 0 means now.
        warn: whether this is the moment to warn about the other writer.
    """

    wait: float
    warn: bool


@dataclass(slots=True)
class _Record:
    times: list[float] = field(default_factory=list)
    strikes: int = 0
    warned: bool = False
    due: float = 0.0


class Repairs:
    """The repairs of one Kustomization's objects, by object and field.

    Args:
        window: seconds within which repairs of one field count together.
        first: seconds of the first back-off; it doubles.
    """

    def __init__(self, window: float = 60.0, first: float = 10.0) -> None:
        self._window = window
        self._first = first
        self._records: dict[tuple[ObjectKey, str], _Record] = {}

    def ask(self, key: ObjectKey, paths: Iterable[str], now: float) -> Verdict:
        """Say when the fields of an object may be repaired.

        Args:
            key: the object.
            paths: the differing fields; empty for a missing object.
            now: monotonic seconds.
        """
        found = [self._records.get((key, path)) for path in (tuple(paths) or ("",))]
        due = max((record.due for record in found if record), default=0.0)
        warn = any(record.strikes and not record.warned for record in found if record)
        return Verdict(max(0.0, due - now), warn)

    def made(self, key: ObjectKey, paths: Iterable[str], now: float, ceiling: float) -> None:
        """Note a repair.

        Args:
            key: the object.
            paths: the fields it restored.
            now: monotonic seconds.
            ceiling: the longest wait, the Kustomization's interval in seconds.
        """
        for path in tuple(paths) or ("",):
            record = self._records.setdefault((key, path), _Record())
            if record.times and now - record.times[-1] > max(
                self._window, 2 * (record.due - record.times[-1])
            ):
                record.times, record.strikes, record.warned = [], 0, False
            recent = [moment for moment in record.times if now - moment < self._window]
            record.times = [*recent[-FREE:], now]
            if len(record.times) >= FREE or record.strikes:
                record.strikes += 1
                record.due = now + min(self._first * 2.0 ** (record.strikes - 1), ceiling)
            else:
                record.due = now

    def warned(self, key: ObjectKey, paths: Iterable[str]) -> None:
        """Note that the warning about these fields was sent."""
        for path in tuple(paths) or ("",):
            record = self._records.get((key, path))
            if record:
                record.warned = True

    def forget(self) -> None:
        """Begin anew, as after a new revision or spec."""
        self._records.clear()
