"""The work queue: which key is to be looked at next, and when.

Pure: no clock, no tasks; the time enters every call as `now`. A key says only "look
at this again", so equal keys merge. Promises: one key is never out twice; a key added
while it is out comes again after `done`; higher priorities go first; within a priority
the namespaces take turns. It must not know what a key stands for.
Source: design.md section 4; client-go's workqueue and controller-runtime's priorityqueue;
back-off of spec/flux-v2.md 9.1 (min-retry-delay, max-retry-delay).
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

MIN_RETRY = 0.75
MAX_RETRY = 900.0


@dataclass(slots=True)
class _Item:
    """A key that waits: when it is due, how urgent, and whether it is among the ready."""

    due: float
    priority: int
    ready: bool = False
    order: int = 0


@dataclass(slots=True)
class _Taken:
    """A key that is out: how long it had waited, and what was added meanwhile."""

    waited: float
    again: _Item | None = None


class WorkQueue(Generic[K]):
    """A de-duplicating queue with priorities, delays, back-off and turns between namespaces.

    Times are seconds of any clock that does not go back; all calls must use the same one.

    Args:
        namespace: gives the namespace of a key, for the turns.
        minimum: the first delay of `add_limited`, in seconds; it doubles each time.
        maximum: the longest delay of `add_limited`, in seconds.
        jitter: changes the delay of `add_limited`; None leaves it.
    """

    def __init__(
        self,
        namespace: Callable[[K], str],
        *,
        minimum: float = MIN_RETRY,
        maximum: float = MAX_RETRY,
        jitter: Callable[[float], float] | None = None,
    ) -> None:
        self._namespace = namespace
        self._minimum = minimum
        self._maximum = maximum
        self._jitter = jitter
        self._items: dict[K, _Item] = {}
        self._taken: dict[K, _Taken] = {}
        self._failures: dict[K, int] = {}
        self._ready: dict[int, OrderedDict[str, OrderedDict[K, None]]] = {}
        self._counts: dict[int, int] = {}
        self._delayed: list[tuple[float, int, K]] = []
        self._order = 0

    def __len__(self) -> int:
        """Give the number of keys that wait, due or not; keys that are out do not count."""
        return len(self._items)

    def __contains__(self, key: K) -> bool:
        """Tell whether a key waits, or will wait again once it is done."""
        taken = self._taken.get(key)
        return key in self._items or (taken is not None and taken.again is not None)

    def add(self, key: K, now: float, priority: int = 0, after: float = 0.0) -> None:
        """Ask for a key to be looked at.

        A key that waits already keeps the higher priority and the earlier time. A key
        that is out waits until it is done.

        Args:
            key: what to look at.
            now: the time.
            priority: higher goes first.
            after: seconds from now until it is due.
        """
        wanted = _Item(now + max(0.0, after), priority)
        taken = self._taken.get(key)
        if taken is not None:
            taken.again = wanted if taken.again is None else _merge(taken.again, wanted)
            return
        known = self._items.get(key)
        if known is None:
            self._insert(key, wanted, now)
            return
        merged = _merge(known, wanted)
        if merged.due < known.due or merged.priority > known.priority:
            self._withdraw(key, known)
            self._insert(key, merged, now)

    def add_limited(self, key: K, now: float, priority: int = 0, ceiling: float | None = None) -> float:
        """Ask for a key to be looked at after a failure: each time in a row twice as late.

        Args:
            key: what to look at.
            now: the time.
            priority: higher goes first.
            ceiling: a longest delay for this time, in seconds.

        Returns:
            The delay, in seconds.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # Past 60 doublings any delay is over the maximum, and floats stay finite.
        delay = min(self._maximum, self._minimum * 2.0 ** min(failures, 60))
        if ceiling is not None:
            delay = min(delay, ceiling)
        if self._jitter is not None:
            delay = max(0.0, self._jitter(delay))
        self.add(key, now, priority, delay)
        return delay

    def forget(self, key: K) -> None:
        """End the back-off of a key; whether it waits does not change."""
        self._failures.pop(key, None)

    def retries(self, key: K) -> int:
        """Give how often in a row a key was added by `add_limited`."""
        return self._failures.get(key, 0)

    def take(self, now: float) -> K | None:
        """Take the key to look at next, or None when none is due.

        The caller must say `done` when it has looked; until then the key is not given again.
        """
        self._promote(now)
        if not self._ready:
            return None
        priority = max(self._ready)
        ring = self._ready[priority]
        namespace, keys = next(iter(ring.items()))
        key = next(iter(keys))
        item = self._items[key]
        self._withdraw(key, item)
        if namespace in ring:
            ring.move_to_end(namespace)
        self._taken[key] = _Taken(max(0.0, now - item.due))
        return key

    def waited(self, key: K) -> float:
        """Give the seconds between a key being due and being taken.

        Raises:
            KeyError: the key is not out.
        """
        return self._taken[key].waited

    def done(self, key: K, now: float) -> None:
        """Give a key back; it waits again if it was added meanwhile.

        Raises:
            KeyError: the key is not out.
        """
        again = self._taken.pop(key).again
        if again is not None:
            # It could not be taken before now, so it was not late before now either.
            self._insert(key, _Item(max(again.due, now), again.priority), now)

    def next_due(self, now: float) -> float | None:
        """Give the time at which `take` has a key: now, later, or None for never."""
        self._promote(now)
        if self._ready:
            return now
        return self._delayed[0][0] if self._delayed else None

    def depth(self, now: float = -math.inf) -> dict[int, int]:
        """Give the number of due keys per priority; a priority once used stays, with 0."""
        self._promote(now)
        return dict(self._counts)

    def _insert(self, key: K, item: _Item, now: float) -> None:
        self._order += 1
        item.order = self._order
        self._items[key] = item
        if item.due <= now:
            self._make_ready(key, item)
        else:
            item.ready = False
            heapq.heappush(self._delayed, (item.due, item.order, key))
            self._compact()

    def _make_ready(self, key: K, item: _Item) -> None:
        item.ready = True
        ring = self._ready.setdefault(item.priority, OrderedDict())
        ring.setdefault(self._namespace(key), OrderedDict())[key] = None
        self._counts[item.priority] = self._counts.get(item.priority, 0) + 1

    def _withdraw(self, key: K, item: _Item) -> None:
        del self._items[key]
        if not item.ready:
            # Its entry in the heap no longer matches an item and is dropped when it comes up.
            return
        ring = self._ready[item.priority]
        namespace = self._namespace(key)
        keys = ring[namespace]
        del keys[key]
        self._counts[item.priority] -= 1
        if not keys:
            del ring[namespace]
        if not ring:
            del self._ready[item.priority]

    def _promote(self, now: float) -> None:
        while self._delayed:
            due, order, key = self._delayed[0]
            if not self._waits(key, order):
                heapq.heappop(self._delayed)
            elif due <= now:
                heapq.heappop(self._delayed)
                self._make_ready(key, self._items[key])
            else:
                return

    def _waits(self, key: K, order: int) -> bool:
        item = self._items.get(key)
        return item is not None and item.order == order and not item.ready

    def _compact(self) -> None:
        """Drop entries that no longer count once they are the most, so that memory stays in bounds."""
        if len(self._delayed) > 2 * len(self._items) + 64:
            self._delayed = [entry for entry in self._delayed if self._waits(entry[2], entry[1])]
            heapq.heapify(self._delayed)


def _merge(one: _Item, other: _Item) -> _Item:
    return _Item(min(one.due, other.due), max(one.priority, other.priority))
