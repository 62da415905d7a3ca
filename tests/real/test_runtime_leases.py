"""Leader election on a real API server: one engine acts, whatever happens to it or to the server."""

from __future__ import annotations

import asyncio
import io
import logging as stdlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import structlog

from gitwright.core.objects import JSON
from gitwright.kube.client import Client
from gitwright.kube.config import load
from gitwright.observe import logging
from gitwright.observe.metrics import Metrics
from gitwright.observe.redact import Redactor
from gitwright.runtime.controller import Controller, Outcome, Request, Slot, request_queue
from gitwright.runtime.lease import KubeLeaseApi, LeaseApi, Leases
from gitwright.runtime.manager import Manager
from tests.realcluster.build import build
from tests.realcluster.cluster import RealCluster

NAMES = ("source-controller-leader-election", "kustomize-controller-leader-election")
GROUP = "coordination.k8s.io/v1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    # One of its own, because its API server is stopped on the way.
    with RealCluster(tmp_path_factory.mktemp("cluster"), build(os.environ)) as started:
        yield started


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    root = stdlib.getLogger()
    handlers, level = list(root.handlers), root.level
    logging.configure("info", "json", io.StringIO(), Redactor())
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@asynccontextmanager
async def lease_api(cluster: RealCluster, namespace: str) -> AsyncIterator[LeaseApi]:
    async with await Client.open(load(str(cluster.kubeconfig()), None, {})) as client:
        yield KubeLeaseApi(client, namespace)


def make(api: LeaseApi, identity: str, duration: float = 2.0, **options: float) -> Leases:
    return Leases(
        api,
        NAMES,
        identity,
        log=logging.get("leases"),
        metrics=Metrics.create(),
        duration=duration,
        renew=options.get("renew", duration / 4),
        retry=options.get("retry", 0.1),
    )


async def fresh(cluster: RealCluster) -> str:
    async with cluster.api() as api:
        name = f"leases-{time.monotonic_ns()}"
        await api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, manager="test")
    return name


async def specs(cluster: RealCluster, namespace: str) -> dict[str, JSON | None]:
    async with cluster.api() as api:
        found = {name: await api.get(GROUP, "Lease", name, namespace) for name in NAMES}
    return {name: (lease["spec"] if lease else None) for name, lease in found.items()}


async def take(cluster: RealCluster, namespace: str, name: str, holder: str, duration: int = 2) -> None:
    """Write a lease as another holder would."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime()) + f"{time.time_ns() // 1000 % 1000000:06}Z"
    async with cluster.api() as api:
        await api.apply(
            {
                "apiVersion": GROUP,
                "kind": "Lease",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {
                    "holderIdentity": holder,
                    "leaseDurationSeconds": duration,
                    "renewTime": stamp,
                    "acquireTime": stamp,
                },
            },
            manager="flux",
        )


async def test_all_leases_are_acquired_renewed_and_handed_back(cluster: RealCluster) -> None:
    """What is held is renewed with the time of acquisition kept, and free for the next at once."""
    namespace = await fresh(cluster)
    async with lease_api(cluster, namespace) as api:
        first, second = make(api, "one"), make(api, "two")
        await first.acquire()
        assert first.held
        before = await specs(cluster, namespace)
        holding = asyncio.create_task(first.hold(lambda reason: None))
        await asyncio.sleep(1.2)
        after = await specs(cluster, namespace)
        for name in NAMES:
            old, new = before[name], after[name]
            assert old
            assert new
            assert new["holderIdentity"] == "one"
            assert new["acquireTime"] == old["acquireTime"]
            assert new["renewTime"] > old["renewTime"]
            assert new["leaseTransitions"] == 0
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(3)
        assert not waiting.done()
        assert "held by one since 20" in second.waiting_for
        holding.cancel()
        await asyncio.wait([holding])
        started = time.monotonic()
        await first.release()
        assert not first.held
        await asyncio.wait_for(waiting, 5)
        assert time.monotonic() - started < 1
        assert second.waiting_for == ""
        assert all(
            spec and spec["leaseTransitions"] == 1 for spec in (await specs(cluster, namespace)).values()
        )
        await second.release()
        for spec in (await specs(cluster, namespace)).values():
            assert spec
            assert spec["holderIdentity"] == ""
            assert spec["leaseDurationSeconds"] == 1


async def test_none_is_taken_while_one_is_held_by_another(cluster: RealCluster) -> None:
    """Half of the leases are never held; a holder that died is waited for its whole duration."""
    namespace = await fresh(cluster)
    await take(cluster, namespace, NAMES[1], "flux_1")
    async with lease_api(cluster, namespace) as api:
        mine = make(api, "mine")
        started = time.monotonic()
        acquiring = asyncio.create_task(mine.acquire())
        await asyncio.sleep(1)
        assert (await specs(cluster, namespace))[NAMES[0]] is None
        await take(cluster, namespace, NAMES[1], "flux_1")
        await asyncio.wait_for(acquiring, 10)
        assert 3 <= time.monotonic() - started < 4
        await mine.release()


async def test_a_stolen_lease_is_noticed_at_the_next_renewal(cluster: RealCluster) -> None:
    """When somebody else holds the lease, acting ends, and the thief's lease is left alone."""
    namespace = await fresh(cluster)
    async with lease_api(cluster, namespace) as api:
        mine = make(api, "mine")
        await mine.acquire()
        lost: list[str] = []
        holding = asyncio.create_task(mine.hold(lost.append))
        await take(cluster, namespace, NAMES[0], "thief")
        await asyncio.wait_for(holding, 2)
        assert len(lost) == 1
        assert "taken by thief" in lost[0]
        await mine.release()
        found = await specs(cluster, namespace)
        assert (found[NAMES[0]] or {})["holderIdentity"] == "thief"
        assert (found[NAMES[1]] or {})["holderIdentity"] == ""


async def test_a_deleted_lease_is_made_again(cluster: RealCluster) -> None:
    """Deleting a lease by hand does not stop the engine."""
    namespace = await fresh(cluster)
    async with lease_api(cluster, namespace) as api:
        mine = make(api, "mine")
        await mine.acquire()
        holding = asyncio.create_task(mine.hold(lambda reason: None))
        async with cluster.api() as other:
            await other.delete(GROUP, "Lease", NAMES[0], namespace)
        await asyncio.sleep(1)
        assert not holding.done()
        assert mine.held
        assert (await specs(cluster, namespace))[NAMES[0]]
        holding.cancel()
        await asyncio.wait([holding])
        await mine.release()


async def test_two_candidates_never_hold_together(cluster: RealCluster) -> None:
    """Of several engines that start at the same time exactly one leads."""
    namespace = await fresh(cluster)
    async with lease_api(cluster, namespace) as api:
        candidates = [make(api, f"candidate-{number}", retry=0.05) for number in range(5)]
        tasks = [asyncio.create_task(candidate.acquire()) for candidate in candidates]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.5)
        assert sum(task.done() for task in tasks) == 1
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for candidate in candidates:
            await candidate.release()


async def test_a_lost_lease_cuts_off_runs_and_the_next_leadership_goes_on(cluster: RealCluster) -> None:
    """The manager cancels what runs at once, waits, leads again, runs it again, and hands back at the end."""
    namespace = await fresh(cluster)
    log: list[str] = []
    finish = asyncio.Event()

    class Work:
        async def reconcile(self, request: Request, slot: Slot) -> Outcome:
            log.append("begins")
            try:
                await finish.wait()
            except asyncio.CancelledError:
                log.append("cut")
                raise
            log.append("ends")
            return Outcome()

    async with lease_api(cluster, namespace) as api:
        leases, stop = make(api, "mine"), asyncio.Event()
        controller = Controller(
            "x",
            Work(),
            concurrency=1,
            queue=request_queue(),
            clock=time.monotonic,
            metrics=Metrics.create(),
            log=logging.get("x"),
        )
        manager = Manager(controllers=[controller], leases=leases, log=logging.get("manager"), grace=5)
        running = asyncio.create_task(manager.run(stop))
        controller.enqueue(Request("apps", "web"))
        await until(lambda: log == ["begins"])
        assert manager.ready() == (True, "[+] engine: leading")
        await take(cluster, namespace, NAMES[1], "thief")
        await until(lambda: log == ["begins", "cut"])
        await until(lambda: "held by thief" in manager.ready()[1])
        assert manager.ready()[0]
        await until(lambda: log == ["begins", "cut", "begins"])
        stop.set()
        await asyncio.sleep(0.1)
        assert leases.held
        finish.set()
        await asyncio.wait_for(running, 5)
        assert log[-1] == "ends"
        assert all(
            spec and spec["holderIdentity"] == "" for spec in (await specs(cluster, namespace)).values()
        )


async def test_an_api_server_that_is_away_ends_leadership_in_time(cluster: RealCluster) -> None:
    """Without renewal acting ends before others may take over; when the server is back, so is the engine."""
    namespace = await fresh(cluster)
    async with lease_api(cluster, namespace) as api:
        mine = make(api, "mine")
        await mine.acquire()
        lost: list[float] = []
        started = time.monotonic()
        holding = asyncio.create_task(mine.hold(lambda reason: lost.append(time.monotonic())))
        await asyncio.to_thread(cluster.stop_apiserver)
        try:
            await asyncio.wait_for(holding, 10)
            assert lost[0] - started < 2.0 + 0.5
            assert not mine.held
            await mine.release()
            acquiring = asyncio.create_task(mine.acquire())
            await until(lambda: "the API server" in mine.waiting_for)
        finally:
            await asyncio.to_thread(cluster.start_apiserver)
        await asyncio.wait_for(acquiring, 30)
        await mine.release()


async def until(condition: Callable[[], bool], patience: float = 8.0) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "did not become true in time"
        await asyncio.sleep(0.02)
