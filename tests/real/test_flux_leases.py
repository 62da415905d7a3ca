"""Flux and gitwright on one cluster: the leases of Flux's controllers decide who acts, and both never do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from tests.real.conftest import EngineFactory
from tests.real.engine import Engine
from tests.real.scene import NotSeenError, Scene, condition, config_map
from tests.realcluster.api import Api
from tests.realcluster.cluster import RealCluster
from tests.servers.git import GitServer

LEASES = ("kustomize-controller-leader-election", "source-controller-leader-election")
# Of the leases in these tests, seconds; Flux's own is 35.
DURATION = 2


class Flux:
    """Flux's kustomize-controller, as far as its Lease shows it.

    Args:
        api: of an administrator.
        namespace: where the Lease is.
    """

    identity = "kustomize-controller-7c4d_e2f1"

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._task: asyncio.Task[None] | None = None
        self.renewed = 0.0

    async def acquire(self) -> None:
        """Take the Lease and keep renewing it."""
        await self._write(self.identity)
        self._task = asyncio.create_task(self._renew())

    async def vanish(self) -> None:
        """Stop renewing it, as a process that was killed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def release(self) -> None:
        """Hand it back."""
        await self.vanish()
        await self._write("")

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(0.3)
            await self._write(self.identity)

    async def _write(self, holder: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": DURATION if holder else 1,
            "acquireTime": now,
            "renewTime": now,
        }
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": LEASES[0], "namespace": self._namespace},
            "spec": spec,
        }
        await self._api.apply(body, manager="flux")
        self.renewed = time.monotonic()


@asynccontextmanager
async def flux_runs(api: Api, namespace: str) -> AsyncIterator[Flux]:
    """Run a Flux that leads, for the length of a block."""
    await api.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, manager="user"
    )
    flux = Flux(api, namespace)
    await flux.acquire()
    try:
        yield flux
    finally:
        await flux.vanish()


async def until(true: Callable[[], bool], what: str, patience: float = 20.0) -> None:
    """Wait for what only asking can tell: the engine's endpoints and log.

    Raises:
        NotSeenError: it does not become true in time.
    """
    end = time.monotonic() + patience
    while not await asyncio.to_thread(true):
        if time.monotonic() > end:
            raise NotSeenError(what)
        await asyncio.sleep(0.1)


def waits(engine: Engine) -> bool:
    """Tell whether the engine says on /readyz for whom it waits."""
    return f"waiting for lease {LEASES[0]}, held by {Flux.identity}" in engine.get("/readyz")[1]


async def holders(scene: Scene, namespace: str) -> list[str]:
    """Give who holds the leases; an empty text for nobody."""
    found = [await scene.get("Lease", name, namespace) for name in LEASES]
    return [str((lease or {}).get("spec", {}).get("holderIdentity") or "") for lease in found]


@pytest.fixture
def scene(api: Api, namespace: str, git_server: GitServer) -> Scene:
    return Scene(api, namespace, git_server)


def written(cluster: RealCluster, engine: Engine, since: int = 0) -> list[str]:
    return [str(line) for line in cluster.audit(engine.user, since) if line.writes]


@pytest.mark.parametrize("end", ["release", "vanish"])
async def test_gitwright_waits_for_flux_and_takes_over(
    own_cluster: RealCluster, scene: Scene, engine: EngineFactory, end: str
) -> None:
    """While Flux renews its lease we write nothing and say so; after it we act, and then hand back."""
    ours = engine()
    revision = scene.commit({"app/a.yaml": config_map("a", k="v")})
    await scene.source()
    await scene.kustomization()
    async with flux_runs(scene.api, ours.namespace) as flux:
        await asyncio.to_thread(ours.start, ready=False)
        await until(lambda: waits(ours), "the engine does not say that it waits")
        # Longer than the lease lasts: only its renewal can keep us waiting.
        await asyncio.sleep(1.5 * DURATION)
        assert waits(ours)
        told = [line for line in ours.log() if line.get("msg") == "waiting to lead"]
        assert told
        assert f"lease {LEASES[0]}, held by {flux.identity}" in told[0]["waitingFor"]
        assert written(own_cluster, ours) == []
        waiting = await scene.get("Kustomization", "app")
        assert waiting is not None
        assert not condition(waiting, "Ready")
        assert "finalizers" not in waiting["metadata"]
        await (flux.release() if end == "release" else flux.vanish())
        last = flux.renewed
        await scene.ready("Kustomization", "app", revision)
        if end == "vanish":
            assert time.monotonic() - last >= DURATION
    identities = await holders(scene, ours.namespace)
    assert len(set(identities)) == 1
    assert identities[0] not in ("", flux.identity)
    assert ours.get("/readyz")[0] == 200
    assert await asyncio.to_thread(ours.stop) == 0
    assert await holders(scene, ours.namespace) == ["", ""]


async def test_gitwright_stops_when_flux_takes_its_lease(
    own_cluster: RealCluster, scene: Scene, engine: EngineFactory
) -> None:
    """When another takes a lease of ours we write nothing more, and make up for it when it is ours again."""
    ours = engine()
    revision = scene.commit({"app/a.yaml": config_map("a", k="v")})
    await scene.source()
    await scene.kustomization()
    await asyncio.to_thread(ours.start)
    await scene.ready("Kustomization", "app", revision)
    async with flux_runs(scene.api, ours.namespace) as flux:
        await until(lambda: waits(ours), "the engine does not say that it waits")
        assert any(line.get("msg") == "lost a lease" for line in ours.log())
        mark = own_cluster.mark()
        await scene.api.delete("v1", "ConfigMap", "a", scene.namespace)
        await scene.push({"app/b.yaml": config_map("b", k="v")})
        await asyncio.sleep(1.5 * DURATION)
        assert written(own_cluster, ours, mark) == []
        assert await scene.get("ConfigMap", "a") is None
        await flux.release()
    await scene.has("ConfigMap", "a", k="v")
    await scene.has("ConfigMap", "b", k="v")


async def test_one_of_two_gitwrights_acts(
    own_cluster: RealCluster, scene: Scene, engine: EngineFactory
) -> None:
    """A second engine waits for the first and takes over when it stops; they never both write."""
    first = engine()
    second = engine(namespace=first.namespace)
    revision = scene.commit({"app/a.yaml": config_map("a", k="v")})
    await scene.source()
    await scene.kustomization()
    await asyncio.to_thread(first.start)
    await scene.ready("Kustomization", "app", revision)
    await asyncio.to_thread(second.start, ready=False)
    identity = (await holders(scene, first.namespace))[0]
    await until(lambda: f"held by {identity}" in second.get("/readyz")[1], "the second does not wait")
    newer = await scene.push({"app/a.yaml": config_map("a", k="w")})
    await scene.ready("Kustomization", "app", newer)
    assert written(own_cluster, second) == []
    await asyncio.to_thread(first.stop)
    mark = own_cluster.mark()
    newest = await scene.push({"app/a.yaml": config_map("a", k="x")})
    await scene.ready("Kustomization", "app", newest)
    assert written(own_cluster, first, mark) == []
    assert identity not in await holders(scene, first.namespace)
