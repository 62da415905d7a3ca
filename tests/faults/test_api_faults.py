"""An API server that fails at random, by a seed: the end is right all the same."""

from __future__ import annotations

import asyncio
import collections
import os
import random
import time
from collections.abc import Callable

import pytest

from tests.faults.conftest import ProxiedFactory
from tests.faults.small import DELETED, End, Operation, SmallApp, make_namespace
from tests.real.scrub import scrub
from tests.realcluster.api import Api
from tests.realcluster.cluster import RealCluster
from tests.servers.api_proxy import (
    ApiProxy,
    Call,
    Cut,
    CutLater,
    Delay,
    Fault,
    Innocent,
    Refuse,
    namespace_of,
)

OPERATIONS: tuple[Operation, ...] = ("install", "upgrade", "prune")
SEEDS = (1, 2, 3, 4, 5, 6)
PATIENCE = 120.0
# One request sent so often within ten seconds is a loop, not a retry.
MOST_IN_TEN_SECONDS = 40


class Storm:
    """Spoils requests at random: about one of three, watches by breaking them after a while.

    Leases are left alone, since an engine that cannot renew them rightly does nothing.

    Args:
        seed: of the chance.
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.faults: collections.Counter[str] = collections.Counter()

    def before(self, call: Call) -> Fault | None:
        """Choose a fault, or none."""
        if call.of_lease:
            return None
        fault = self._watch() if call.watches else self._choose(call)
        if fault is not None:
            self.faults[_name(fault)] += 1
        return fault

    def after(self, _call: Call) -> Fault | None:
        """Hand on; a lost answer is chosen before."""
        return None

    def _watch(self) -> Fault | None:
        if self._chance.random() < 0.2:
            return Refuse(503, "ServiceUnavailable")
        return CutLater(self._chance.uniform(0.2, 4.0))

    def _choose(self, call: Call) -> Fault | None:
        if self._chance.random() > 0.35:
            return None
        faults: list[Fault] = [
            Refuse(429, "TooManyRequests", retry_after=1),
            Refuse(500, "InternalError"),
            Refuse(503, "ServiceUnavailable"),
            Refuse(503, "ServiceUnavailable", retry_after=1),
            Cut(),
            Cut(forwarded=True),
            Delay(self._chance.uniform(0.05, 0.8)),
        ]
        if call.method != "GET":
            faults.append(Refuse(409, "Conflict"))
        return self._chance.choice(faults)


def _name(fault: Fault) -> str:
    if isinstance(fault, Refuse):
        return str(fault.code)
    return f"{type(fault).__name__}{' after' if isinstance(fault, Cut) and fault.forwarded else ''}"


@pytest.mark.parametrize("seed", SEEDS)
async def test_an_unreliable_api_server_changes_nothing_about_the_end(
    own_cluster: RealCluster,
    api: Api,
    proxied: ProxiedFactory,
    small_app: Callable[[str], SmallApp],
    seed: int,
) -> None:
    """Through 409, 429, 5xx, lost answers and broken watches each operation ends as undisturbed."""
    engine, proxy = proxied()
    engine.start()
    calm, space = (f"f-{name}-{os.urandom(2).hex()}" for name in ("calm", f"storm-{seed}"))
    for name in (calm, space):
        await make_namespace(api, name)
    wanted = await calm_ends(api, small_app(calm))
    app, storm = small_app(space), Storm(seed)
    for operation in OPERATIONS:
        before, mark = await app.uids(api), own_cluster.mark()
        proxy.rule = storm
        proxy.cut_watches()
        await app.begin(api, operation)
        await app.wait(api, PATIENCE)
        proxy.rule = Innocent()
        await quiet(proxy, space)
        # What was done is done; only then the statuses may still be mended.
        await app.wait(api)
        assert await app.end(api) == wanted[operation], (operation, seed)
        gone = {
            line.name
            for line in own_cluster.audit(engine.user, mark)
            if line.verb.startswith("delete") and line.namespace == space and line.code < 300
        }
        assert gone <= DELETED[operation], (operation, seed)
        after = await app.uids(api)
        kept = before.keys() & after.keys()
        assert {key: before[key] for key in kept} == {key: after[key] for key in kept}, (operation, seed)
    print(f"seed {seed}: {dict(storm.faults)}")  # noqa: T201 - shown with -rP
    assert sum(storm.faults.values()) >= 10, storm.faults
    assert busiest(proxy.calls) <= MOST_IN_TEN_SECONDS
    # A server that fails is nothing unforeseen.
    assert not [line for line in engine.log() if "unforeseen" in line.get("msg", "")]
    for name in (calm, space):
        await scrub(api, name, patience=10)


async def calm_ends(api: Api, app: SmallApp) -> dict[Operation, End]:
    """Do all operations undisturbed and give their ends."""
    ends: dict[Operation, End] = {}
    for operation in OPERATIONS:
        await app.begin(api, operation)
        await app.wait(api)
        ends[operation] = await app.end(api)
    return ends


async def quiet(proxy: ApiProxy, namespace: str, seconds: float = 3.0, patience: float = 45.0) -> None:
    """Wait until nothing has been written about a namespace for some seconds: retries have an end."""
    end = time.monotonic() + patience
    while True:
        sent = [call.time for call in proxy.calls if call.method != "GET" and namespace_of(call) == namespace]
        if time.monotonic() - max(sent, default=0.0) > seconds:
            return
        assert time.monotonic() < end, f"still writing after {patience:g} s without faults"
        await asyncio.sleep(0.2)


def busiest(calls: list[Call], window: float = 10.0) -> int:
    """Give how often one and the same request was sent within ten seconds; new Events apart."""
    times: dict[str, list[float]] = collections.defaultdict(list)
    for call in calls:
        if not call.path.endswith("/events"):
            times[str(call)].append(call.time)
    most = 0
    for moments in times.values():
        first = 0
        for last, moment in enumerate(moments):
            while moment - moments[first] > window:
                first += 1
            most = max(most, last - first + 1)
    return most
