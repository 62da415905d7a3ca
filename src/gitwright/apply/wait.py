"""Waiting until objects are healthy, by their watches.

Role in the flow: after the writes of a stage or a run. It polls nothing: every look
is caused by a change of an object, the end of the time, or newer input.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gitwright.apply.estate import Estate, Seen
from gitwright.apply.live import Live, Owner
from gitwright.core.objects import GVK, ObjectKey
from gitwright.health import Health
from gitwright.kube.informer import Informer

_GONE = Health("NotFound", "the object does not exist")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a wait ended.

    Args:
        healthy: everything is current.
        message: Flux's text of what was not, or empty.
        detail: the causes, one line per object, or empty.
    """

    healthy: bool
    message: str = ""
    detail: str = ""


async def watched_by_name(
    estate: Estate, targets: Iterable[tuple[GVK, ObjectKey]]
) -> dict[ObjectKey, Informer[Live]]:
    """Watch objects that need not be ours, each by its name.

    The caller releases the informers. Source: design, section 4, third point.
    """
    return {
        key: await estate.cluster.informer(
            gvk, estate.project, namespace=key.namespace, fields=f"metadata.name={key.name}", view="health"
        )
        for gvk, key in targets
    }


async def wait_gone(informer: Informer[Live], key: ObjectKey) -> None:
    """Wait until an object that is watched by name does not exist any more."""
    gone = asyncio.Event()
    stop = informer.subscribe(lambda change: gone.set() if change.new is None else None)
    try:
        if informer.get(key.namespace, key.name) is not None:
            await gone.wait()
    finally:
        stop()


class Wait:
    """One wait for the health of a set of objects.

    Args:
        estate: the managed objects.
        owner: the Kustomization that waits.
        keys: managed objects to wait for.
        named: informers of further objects, from `watched_by_name`.
        ephemeral: Jobs that may vanish when they are done.
    """

    def __init__(
        self,
        estate: Estate,
        owner: Owner,
        keys: Sequence[ObjectKey],
        named: Mapping[ObjectKey, Informer[Live]] | None = None,
        ephemeral: frozenset[ObjectKey] = frozenset(),
    ) -> None:
        self._estate = estate
        self._owner = owner
        self._keys = frozenset(keys)
        self._named = dict(named or {})
        self._ephemeral = ephemeral
        self._wake = asyncio.Event()
        self._touched: set[ObjectKey] = set()
        self._drifted = True

    def look(self) -> dict[ObjectKey, Health]:
        """Give the health of each object as known now."""
        return self._look_at({*self._keys, *self._named})

    def _look_at(self, keys: Iterable[ObjectKey]) -> dict[ObjectKey, Health]:
        found = {}
        for key in keys:
            informer = self._named.get(key)
            if informer is None:
                found[key] = self._judge(key, self._estate.find(key))
            elif not informer.has_synced:
                found[key] = Health("Unknown", informer.last_error or "not looked at yet")
            else:
                found[key] = self._judge(key, informer.get(key.namespace, key.name))
        return found

    def _judge(self, key: ObjectKey, live: Live | None) -> Health:
        if live is not None:
            return live.health
        return Health("Current", "") if key in self._ephemeral else _GONE

    def settled(self) -> bool:
        """Tell whether everything is current already."""
        return all(health.status == "Current" for health in self.look().values())

    async def run(
        self,
        timeout: float,
        *,
        interrupted: Callable[[], None],
        newer: asyncio.Event,
        on_drift: Callable[[], Awaitable[float | None]],
    ) -> Verdict:
        """Wait until all are current, one has failed, or the time is over.

        Args:
            timeout: seconds.
            interrupted: raises when newer input must be given way to.
            newer: set when newer input has come.
            on_drift: called at the beginning and after drift, for repairs meanwhile; gives
                seconds after which it wants to be called again, or None.
        """
        stops = [self._estate.subscribe(self._seen)]
        stops += [informer.subscribe(lambda _change: self._wake.set()) for informer in self._named.values()]
        hurry = asyncio.ensure_future(newer.wait())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        found, again = self.look(), deadline
        try:
            while True:
                interrupted()
                self._wake.clear()
                if self._drifted or again <= loop.time() < deadline:
                    self._drifted = False
                    after = await on_drift()
                    again = deadline if after is None else loop.time() + after
                # Only what changed: thousands of objects change thousands of times.
                touched, self._touched = self._touched, set()
                found |= self._look_at({*touched, *self._named})
                if all(health.status == "Current" for health in found.values()):
                    return Verdict(True)
                if any(health.status == "Failed" for health in found.values()):
                    return self._verdict(found, early=True)
                if (left := deadline - loop.time()) <= 0:
                    return self._verdict(found, early=False)
                wake = asyncio.ensure_future(self._wake.wait())
                # A time limit by cancellation could cut off a repair half way.
                left = max(0.0, min(left, again - loop.time()))
                await asyncio.wait({wake, hurry}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                wake.cancel()
        finally:
            hurry.cancel()
            for stop in stops:
                stop()

    def _seen(self, seen: Seen) -> None:
        if seen.key in self._keys:
            self._touched.add(seen.key)
            self._wake.set()
        if seen.drifted and seen.owner == self._owner:
            self._drifted = True
            self._wake.set()

    def _verdict(self, found: Mapping[ObjectKey, Health], *, early: bool) -> Verdict:
        wrong = {
            key: health
            for key, health in sorted(found.items())
            if (health.status == "Failed" if early else health.status != "Current")
        }
        if not wrong:
            return Verdict(True)
        names = []
        for key, health in wrong.items():
            # Flux adds the cause only where judging itself failed.
            cause = f": {health.message}" if health.status == "Unknown" and health.message else ""
            names.append(f"{key.subject} status: '{health.status}'{cause}")
        begin = "failed early due to stalled resources" if early else "timeout waiting for"
        causes = [
            f"{key.subject}: {health.message}"
            for key, health in wrong.items()
            if health.message and health.status != "Unknown"
        ]
        return Verdict(False, f"{begin}: [{', '.join(names)}]", "\n".join(causes))
