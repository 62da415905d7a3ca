"""Leader election by Leases, several at once: hold all of them, or act on nothing.

Role in the flow: the manager acquires the leases of Flux's controllers before its own
controllers start, and stops them the moment one is lost, so two engines never act
together. The rules are pure functions (`observe`, `decide`, `wanted_spec`); `Leases` is
the loop around them. It must not know what is led.
Source: design.md section 4; client-go's tools/leaderelection; spec/flux-v2.md 9.1.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from gitwright.core.objects import GVK, JSON
from gitwright.kube.errors import AlreadyExists, Conflict, NotFound
from gitwright.observe import logging
from gitwright.observe.metrics import Metrics

if TYPE_CHECKING:
    from gitwright.kube.client import Client

LEASE = GVK("coordination.k8s.io", "v1", "Lease")
FIELD_MANAGER = "gitwright"


class LeaseApi(Protocol):
    """The three calls that leader election needs."""

    async def get(self, name: str) -> JSON | None:
        """Read a Lease; None when there is none."""
        ...

    async def create(self, name: str, spec: JSON) -> JSON:
        """Create a Lease; raises `AlreadyExists` when there is one."""
        ...

    async def update(self, name: str, spec: JSON, resource_version: str) -> JSON:
        """Write a Lease read at that version; raises `Conflict` or `NotFound` when it moved on."""
        ...


class KubeLeaseApi:
    """Leases of one namespace on a Kubernetes API server.

    Args:
        client: speaks to the server as the engine.
        namespace: the runtime namespace.
    """

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def get(self, name: str) -> JSON | None:
        """Read a Lease; None when there is none."""
        try:
            return await self._client.get(LEASE, name, self._namespace)
        except NotFound:
            return None

    async def create(self, name: str, spec: JSON) -> JSON:
        """Create a Lease."""
        body = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": name, "namespace": self._namespace},
            "spec": spec,
        }
        return await self._client.create(body, field_manager=FIELD_MANAGER)

    async def update(self, name: str, spec: JSON, resource_version: str) -> JSON:
        """Write the spec, provided that the Lease is still at that version."""
        body = {"metadata": {"resourceVersion": resource_version}, "spec": spec}
        return await self._client.patch(
            LEASE, name, self._namespace, body, kind="merge", field_manager=FIELD_MANAGER
        )


class Action(Enum):
    """What may be done about a Lease now."""

    CREATE = "create"
    ACQUIRE = "acquire"
    RENEW = "renew"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Observed:
    """A state of a Lease, and when we saw it first.

    Args:
        record: what its spec said.
        since: our own monotonic clock, in seconds. Holders' clocks are never trusted.
    """

    record: tuple[Any, ...]
    since: float


_RECORD = (
    *("holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime"),
    *("leaseTransitions", "preferredHolder", "strategy"),
)


def observe(lease: JSON, observed: Observed | None, now: float) -> Observed:
    """Note a Lease as seen; while its spec stays the same, the first sight counts."""
    spec = lease.get("spec") or {}
    record = tuple(spec.get(field) for field in _RECORD)
    if observed is not None and observed.record == record:
        return observed
    return Observed(record, now)


def decide(lease: JSON | None, now: float, identity: str, observed: Observed | None) -> Action:
    """Say what a candidate may do about a Lease, by the rules of client-go.

    Args:
        lease: the Lease as just read; None when there is none.
        now: our monotonic clock, in seconds.
        identity: who we are.
        observed: what `observe` gave for this reading; None if it is seen now for the first time.

    Returns:
        `CREATE` when there is none, `RENEW` when it is ours, `ACQUIRE` when nobody holds
        it or its holder has not renewed it for its whole duration by our own clock,
        else `WAIT`.
    """
    if lease is None:
        return Action.CREATE
    holder = holder_of(lease)
    if not holder:
        return Action.ACQUIRE
    if holder == identity:
        return Action.RENEW
    since = observe(lease, observed, now).since
    duration = float((lease.get("spec") or {}).get("leaseDurationSeconds") or 0)
    return Action.WAIT if now < since + duration else Action.ACQUIRE


def wanted_spec(action: Action, lease: JSON | None, identity: str, duration: float, wall: datetime) -> JSON:
    """Give the spec that carries out an action.

    Args:
        action: `CREATE`, `ACQUIRE` or `RENEW`.
        lease: the Lease the decision was made on.
        identity: who we are.
        duration: for how long others are to wait for us, in seconds; written as whole seconds, at least one.
        wall: the time of day.
    """
    old = (lease or {}).get("spec") or {}
    stamp = micro_time(wall)
    spec: JSON = {
        "holderIdentity": identity,
        "leaseDurationSeconds": max(1, round(duration)),
        "acquireTime": stamp,
        "renewTime": stamp,
        "leaseTransitions": int(old.get("leaseTransitions") or 0),
    }
    if action is Action.RENEW:
        spec["acquireTime"] = old.get("acquireTime") or stamp
    elif action is Action.ACQUIRE:
        spec["leaseTransitions"] += 1
    return spec


def released_spec(lease: JSON, wall: datetime) -> JSON:
    """Give the spec that hands a Lease back: no holder, one second, as client-go writes it."""
    stamp = micro_time(wall)
    return {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "acquireTime": stamp,
        "renewTime": stamp,
        "leaseTransitions": int((lease.get("spec") or {}).get("leaseTransitions") or 0),
    }


def holder_of(lease: JSON) -> str:
    """Give the identity that a Lease names as its holder, or nothing."""
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def micro_time(moment: datetime) -> str:
    """Write a time as Kubernetes' MicroTime: RFC 3339 in UTC with six decimals."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _text(error: Exception) -> str:
    # Time limits have no text of their own.
    return str(error) or type(error).__name__


@dataclass(frozen=True, slots=True)
class _Held:
    """A Lease that is ours: as last written, and when the write was sent."""

    lease: JSON
    renewed: float


class _Lost(Exception):
    """A Lease is not ours any more; the text says why."""


class Leases:
    """Holds several Leases together.

    Args:
        api: reads and writes Leases (`KubeLeaseApi` on a real server).
        names: the Leases, all of which are needed to act.
        identity: who we are; unique to this process.
        duration: seconds after which others may take a Lease that we do not renew.
        renew: seconds between renewals.
        retry: seconds between looks at a Lease that another holds, and after an error.
        log: tells who is waited for, and what was acquired, lost and released.
        metrics: where leadership is shown.
        clock: seconds, monotonic.
        wall: the time of day, for the Leases' stamps.

    Raises:
        ValueError: a renewal could not come in time.
    """

    def __init__(
        self,
        api: LeaseApi,
        names: tuple[str, ...],
        identity: str,
        *,
        log: logging.Log,
        metrics: Metrics,
        duration: float = 35.0,
        renew: float = 10.0,
        retry: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        # Flux renews until 30 of 35 seconds have passed; what is left is for runs to stop in.
        self._deadline = duration * 6 / 7
        if not 0 < renew < self._deadline:
            raise ValueError(
                f"leases of {duration:g} s must be renewed within {self._deadline:g} s, not {renew:g} s"
            )
        if not identity:
            raise ValueError("a lease needs the identity of its holder")
        self._api = api
        # One order for all engines, so that two of them never hold half each.
        self._names = tuple(sorted(set(names)))
        self._identity = identity
        self._duration = duration
        self._renew = renew
        self._retry = retry
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._wall = wall
        self._observed: dict[str, Observed] = {}
        self._held: dict[str, _Held] = {}
        # Leases with a write of which we do not know whether it arrived.
        self._unsure: set[str] = set()
        self._waiting_for = ""
        for name in self._names:
            metrics.leading(name, False)

    @property
    def held(self) -> bool:
        """Whether all Leases are ours, by our own clock, at this moment."""
        now = self._clock()
        return all(
            name in self._held and now < self._held[name].renewed + self._deadline for name in self._names
        )

    @property
    def waiting_for(self) -> str:
        """Why we do not lead: the Lease, its holder and since when it is renewed; empty when we do."""
        return self._waiting_for

    async def acquire(self) -> None:
        """Wait until all Leases are ours.

        A Lease is taken only when all of them can be, so nothing is kept from another
        engine by one that could not act anyway. Errors of the API server are waited out.
        """
        self._held = {}
        while True:
            if await self._try_all():
                break
            await asyncio.sleep(self._retry)
        self._tell_waiting("")
        for name in self._names:
            self._metrics.leading(name, True)
        self._log.info("acquired the leases", leases=list(self._names), identity=self._identity)

    async def hold(self, on_lost: Callable[[str], object]) -> None:
        """Renew the Leases until one is lost; ends then.

        Args:
            on_lost: called at once with the reason, before others can have taken over.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for name in self._names:
                    group.create_task(self._keep(name, on_lost), name=f"lease {name}")
        except* _Lost as lost:
            self._log.error("lost a lease", reason=str(lost.exceptions[0]))
            for name in self._names:
                self._metrics.leading(name, False)

    async def release(self) -> None:
        """Hand back what is ours, so that another engine can start at once."""
        held, self._held = self._held, {}
        unsure, self._unsure = self._unsure, set()
        for name in sorted(unsure | held.keys()):
            self._metrics.leading(name, False)
            try:
                async with asyncio.timeout(self._duration - self._deadline + self._retry):
                    lease = held[name].lease if name in held else await self._api.get(name)
                    if await self._give_back(name, lease):
                        self._log.info("released the lease", lease=name)
            except Exception as error:
                # It then runs out by itself, which costs the next engine time and nothing else.
                self._log.warning("could not release the lease", lease=name, error=_text(error))

    async def _try_all(self) -> bool:
        try:
            async with asyncio.timeout(self._deadline):
                seen = {name: await self._look(name) for name in self._names}
                if held := [name for name, (_, action) in seen.items() if action is Action.WAIT]:
                    # One of them is enough to say why; all of them by turns would fill the log.
                    self._tell_held(held[0], seen[held[0]][0] or {})
                    return False
                for name, (lease, action) in seen.items():
                    await self._write(name, lease, action)
                if self.held:
                    return True
        except (Conflict, AlreadyExists, NotFound):
            # Another candidate was faster; the next look tells who.
            pass
        except Exception as error:
            self._tell_waiting(f"the API server, to read and write leases: {_text(error)}")
        await self.release()
        return False

    async def _look(self, name: str) -> tuple[JSON | None, Action]:
        lease, now = await self._api.get(name), self._clock()
        if lease is not None:
            self._observed[name] = observe(lease, self._observed.get(name), now)
        return lease, decide(lease, now, self._identity, self._observed.get(name))

    async def _write(self, name: str, lease: JSON | None, action: Action) -> None:
        sent = self._clock()
        spec = wanted_spec(action, lease, self._identity, self._duration, self._wall())
        self._unsure.add(name)
        try:
            if lease is None:
                written = await self._api.create(name, spec)
            else:
                written = await self._api.update(name, spec, lease["metadata"]["resourceVersion"])
        except (AlreadyExists, Conflict, NotFound):
            self._unsure.discard(name)
            raise
        self._unsure.discard(name)
        self._held[name] = _Held(written, sent)

    async def _keep(self, name: str, on_lost: Callable[[str], object]) -> None:
        while True:
            due = self._held[name].renewed + self._renew
            await asyncio.sleep(max(0.0, due - self._clock()))
            try:
                await self._renew_once(name)
            except _Lost as lost:
                on_lost(str(lost))
                raise

    async def _renew_once(self, name: str) -> None:
        """Renew one Lease, trying again after errors while it is certainly still ours.

        Raises:
            _Lost: another holds it, or it could not be renewed in time.
        """
        problem = "the process was not running"
        while (left := self._held[name].renewed + self._deadline - self._clock()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._renew_or_read(name)
                return
            except _Lost:
                raise
            except Exception as error:
                problem = _text(error)
                self._log.warning("could not renew the lease", lease=name, error=problem)
            left = self._held[name].renewed + self._deadline - self._clock()
            await asyncio.sleep(max(0.0, min(self._retry, left)))
        raise _Lost(f"lease {name} could not be renewed within {self._deadline:g} s: {problem}")

    async def _renew_or_read(self, name: str) -> None:
        try:
            # Nobody else writes to it in the ordinary course, so no reading before each renewal.
            await self._write(name, self._held[name].lease, Action.RENEW)
            return
        except (Conflict, NotFound):
            lease = await self._api.get(name)
        if lease is not None and holder_of(lease) != self._identity:
            raise _Lost(f"lease {name} was taken by {holder_of(lease) or 'nobody: it was released'}")
        await self._write(name, lease, Action.CREATE if lease is None else Action.RENEW)

    async def _give_back(self, name: str, lease: JSON | None) -> bool:
        current = lease
        while current is not None and holder_of(current) == self._identity:
            try:
                spec = released_spec(current, self._wall())
                await self._api.update(name, spec, current["metadata"]["resourceVersion"])
                return True
            except NotFound:
                return False
            except Conflict:
                current = await self._api.get(name)
        return False

    def _tell_held(self, name: str, lease: JSON) -> None:
        spec = lease.get("spec") or {}
        self._tell_waiting(
            f"lease {name}, held by {holder_of(lease)} since {spec.get('acquireTime')}"
            f" and last renewed at {spec.get('renewTime')}"
        )

    def _tell_waiting(self, text: str) -> None:
        # The time of the last renewal changes all the while and is no news.
        news = text.partition(" and last renewed")[0] != self._waiting_for.partition(" and last renewed")[0]
        self._waiting_for = text
        if news and text:
            self._log.info("waiting to lead", waitingFor=text, identity=self._identity)
