"""Many small applications of one repository: the benchmark of Flux's own project, on one cluster.

Role: the scenario of the tests that count requests and of the benchmarks. Each application
is an overlay of its own over `corpus/flux-benchmark`, four objects, no replicas, so that a
Deployment is ready without a node. Knows no engine but by its process.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from tests.real.flux import JSON, KUSTOMIZE, SOURCE, git_repository, kustomization, request, settled
from tests.real.flux import wait_settled as wait_one
from tests.realcluster.api import Api
from tests.realcluster.cluster import RealCluster
from tests.realcluster.tally import Tally
from tests.servers.git import Content, GitRepo, GitServer

T = TypeVar("T")
_AT_ONCE = 16
REPOSITORY = "apps"


class Fleet:
    """Applications 000, 001, ... of one GitRepository in one namespace.

    Args:
        cluster: that they are installed on.
        git: serves the repository.
        corpus: folder of the corpora.
        namespace: for all objects; made by `prepare`.
        paths: how many overlays the repository has.
    """

    def __init__(
        self, cluster: RealCluster, git: GitServer, corpus: Path, namespace: str, paths: int
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.paths = paths
        self._git = git
        self._tokens = 0
        self._repo = GitRepo.create(git.root, f"{namespace}-{REPOSITORY}")
        base = (corpus / "flux-benchmark" / "manifests" / "podinfo" / "podinfo.yaml").read_text()
        files: dict[str, Content] = {
            "base/podinfo.yaml": base,
            "base/kustomization.yaml": "resources: [podinfo.yaml]\n",
        }
        files |= {overlay_path(number): overlay() for number in range(paths)}
        self.commit = self._repo.commit(files)

    # -- doing -----------------------------------------------------------------------------

    def run(self, work: Callable[[Api], Awaitable[T]]) -> T:
        """Do something with a client of the administrator."""

        async def with_api() -> T:
            async with self.cluster.api() as api:
                return await work(api)

        return asyncio.run(with_api())

    async def prepare(self, api: Api) -> None:
        """Make the namespace and the GitRepository, and wait until that is fetched."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        await api.apply(namespace, manager="test")
        source = git_repository(
            REPOSITORY, self.namespace, self._git.url(f"{self.namespace}-{REPOSITORY}"), interval="1m"
        )
        await api.apply(source, manager="test")
        await wait_one(api, "GitRepository", REPOSITORY, self.namespace, commit=self.commit)

    async def install(self, api: Api, numbers: Sequence[int], patience: float = 300.0) -> float:
        """Make Kustomizations and wait until all are ready; give the seconds that took."""
        began = time.monotonic()
        await together((api.apply(self.app(number), manager="test") for number in numbers), at_once=_AT_ONCE)
        await self.wait(api, numbers, patience=patience)
        return time.monotonic() - began

    def app(self, number: int) -> JSON:
        """Give the Kustomization of one application."""
        return kustomization(
            app_name(number),
            self.namespace,
            REPOSITORY,
            interval="1m",
            timeout="3m",
            path=f"./apps/{number:03}",
            targetNamespace=self.namespace,
            wait=True,
            postBuild={"substitute": {"INDEX": f"{number:03}", "MCPU": "100m"}},
        )

    def push(self, files: dict[str, Content]) -> str:
        """Commit files and give the commit's id; nobody is told yet."""
        self.commit = self._repo.commit(files)
        return self.commit

    async def nudge(self, api: Api) -> None:
        """Ask for a fetch, as a webhook would, and wait until it is done."""
        token = self._token()
        await request(api, "GitRepository", REPOSITORY, self.namespace, token)
        await wait_one(api, "GitRepository", REPOSITORY, self.namespace, commit=self.commit, token=token)

    async def force(self, api: Api, numbers: Sequence[int], patience: float = 300.0) -> float:
        """Ask for a reconciliation of applications and wait until all have handled it; give the seconds."""
        token, began = self._token(), time.monotonic()
        await together(
            (request(api, "Kustomization", app_name(number), self.namespace, token) for number in numbers),
            at_once=_AT_ONCE,
        )
        await self.wait(api, numbers, token=token, patience=patience)
        return time.monotonic() - began

    def _token(self) -> str:
        self._tokens += 1
        return f"t{self._tokens}"

    # -- seeing ----------------------------------------------------------------------------

    async def wait(
        self, api: Api, numbers: Sequence[int], *, token: str = "", patience: float = 300.0
    ) -> None:
        """Wait until applications are ready at the present commit.

        Raises:
            AssertionError: they are not within `patience` seconds; names some.
        """
        wanted = {app_name(number) for number in numbers}
        end = time.monotonic() + patience
        while True:
            listed = await api.list(KUSTOMIZE, "Kustomization", self.namespace)
            ready = {obj["metadata"]["name"] for obj in listed if settled(obj, self.commit, token)}
            if wanted <= ready:
                return
            late = sorted(wanted - ready)
            shown = [obj.get("status") for obj in listed if obj["metadata"]["name"] == late[0]]
            assert time.monotonic() < end, (
                f"{len(late)} of {len(wanted)} are not ready after {patience:g} s, "
                f"{late[0]}: {json.dumps(shown, ensure_ascii=False)}"
            )
            await asyncio.sleep(0.25)

    async def quiet(self, user: str, seconds: float = 2.0, patience: float = 60.0) -> None:
        """Wait until an engine has sent nothing but leases and watches for some seconds.

        Raises:
            AssertionError: it goes on for longer than `patience` seconds.
        """
        end = time.monotonic() + patience
        since, mark = time.monotonic(), self.cluster.mark()
        while time.monotonic() - since < seconds:
            await asyncio.sleep(0.2)
            tally = Tally.of(self.cluster.audit(user, mark))
            if tally.requests or tally.lists or tally.discovery:
                since, mark = time.monotonic(), self.cluster.mark()
            assert time.monotonic() < end, f"no quiet within {patience:g} s\n{tally.table()}"

    async def sources(self, api: Api) -> list[JSON]:
        """Give the GitRepositories."""
        return await api.list(SOURCE, "GitRepository", self.namespace)


def app_name(number: int) -> str:
    """Give the name of an application's Kustomization."""
    return f"app-{number:03}"


def overlay_path(number: int) -> str:
    """Give the path of an application's overlay in the repository."""
    return f"apps/{number:03}/kustomization.yaml"


def overlay(*, tag: str = "6.5.3", service_note: str = "") -> str:
    """Give an application's overlay.

    Args:
        tag: of the image, in the Deployment.
        service_note: an annotation of the Service; empty for none.
    """
    found: JSON = {
        "resources": ["../../base"],
        "images": [{"name": "ghcr.io/stefanprodan/podinfo", "newTag": tag}],
    }
    if service_note:
        patch = [{"op": "add", "path": "/metadata/annotations", "value": {"note": service_note}}]
        found["patches"] = [{"target": {"kind": "Service"}, "patch": json.dumps(patch)}]
    return json.dumps(found)


async def together(works: Iterable[Awaitable[object]], *, at_once: int) -> None:
    """Wait for many things, some at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(work: Awaitable[object]) -> None:
        async with gate:
            await work

    await asyncio.gather(*(one(work) for work in works))
