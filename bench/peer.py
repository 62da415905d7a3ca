"""The trace peer: a bare client that replays the requests Flux sends, and does nothing else.

Role: what gitwright is measured against where Flux itself cannot run. It renders nothing, fetches
nothing and waits for nothing, so its times are a lower bound on Flux's. What it sends per
application and pass was counted in the audit log of a real API server beside Flux 2.9:
install 34 (12 status patches, 8 GET, 4 dry runs, 4 applies, 3 Events, 1 finalizer, 2 lists), a
pass that finds nothing 27, both by 4 workers, the objects of one application one by one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.realcluster.api import Api

JSON = dict[str, Any]
WORKERS = 4
KUSTOMIZE = "kustomize.toolkit.fluxcd.io/v1"
MANAGER = "kustomize-controller"
STATUS_PATCHES = 12


@dataclass
class TracePeer:
    """Replays Flux's requests for applications of the benchmark.

    Args:
        api: acts as the peer's own user, by which its requests are counted.
        corpus: folder of the corpora.
        namespace: of the applications; must exist.
    """

    api: Api
    corpus: Path
    namespace: str
    revision: str = "main@sha1:0"

    def __post_init__(self) -> None:
        self._text = (self.corpus / "flux-benchmark/manifests/podinfo/podinfo.yaml").read_text()
        self._serial = 0

    def objects(self, number: int, cpu: str = "100m") -> list[JSON]:
        """Give the four objects of an application, with the labels that Flux adds."""
        text = self._text.replace("${INDEX}", f"{number:03}").replace("${PODS:=0}", "0")
        found = [obj for obj in yaml.safe_load_all(text.replace("${MCPU}", cpu)) if obj]
        for obj in found:
            labels = {
                "kustomize.toolkit.fluxcd.io/name": f"app-{number:03}",
                "kustomize.toolkit.fluxcd.io/namespace": self.namespace,
            }
            obj["metadata"]["namespace"] = self.namespace
            obj["metadata"]["labels"] |= labels
        return found

    async def pass_over(self, numbers: Sequence[int], *, install: bool) -> float:
        """Work on applications as Flux's queue does; give the seconds until all are done."""
        began = time.monotonic()
        waiting = list(reversed(numbers))

        async def worker() -> None:
            while waiting:
                await self._one(waiting.pop(), install=install)

        await asyncio.gather(*(worker() for _ in range(WORKERS)))
        return time.monotonic() - began

    async def commit(self, numbers: Sequence[int], changed: int, cpu: str) -> float:
        """Work on all applications of a source after a commit; give the seconds until one is applied.

        Args:
            numbers: in the order in which the queue gives them.
            changed: the application that the commit changes.
            cpu: the new value.
        """
        began = time.monotonic()
        waiting = list(reversed(numbers))
        applied = 0.0

        async def worker() -> None:
            nonlocal applied
            while waiting:
                number = waiting.pop()
                if number == changed:
                    await self._one(number, install=False, cpu=cpu)
                    applied = time.monotonic() - began
                else:
                    await self._one(number, install=False)

        await asyncio.gather(*(worker() for _ in range(WORKERS)))
        return applied

    async def _one(self, number: int, *, install: bool, cpu: str = "") -> None:
        name = f"app-{number:03}"
        objects = self.objects(number, cpu or "100m")
        left = STATUS_PATCHES
        if install:
            body = {"metadata": {"finalizers": ["finalizers.fluxcd.io"]}}
            await self.api.patch(
                KUSTOMIZE, "Kustomization", name, self.namespace, body, manager="gotk-" + MANAGER
            )
        for _ in range(4):
            left -= 1
            await self._status(name)
        for obj in objects:
            await self.api.get(obj["apiVersion"], obj["kind"], obj["metadata"]["name"], self.namespace)
            await self._apply(obj, dry_run=True)
        for obj in objects:
            if install or (cpu and obj["kind"] == "Deployment"):
                await self._apply(obj, dry_run=False)
        for obj in objects:
            await self.api.get(obj["apiVersion"], obj["kind"], obj["metadata"]["name"], self.namespace)
        labels = f"app.kubernetes.io/name=podinfo-{number:03}"
        await self.api.list("apps/v1", "ReplicaSet", self.namespace, labels)
        await self.api.list("v1", "Pod", self.namespace, labels)
        while left:
            left -= 1
            await self._status(name)
        for _ in range(3 if install else 1):
            await self._event(name)

    async def _apply(self, obj: JSON, *, dry_run: bool) -> None:
        meta = obj["metadata"]
        path = await self.api.path(obj["apiVersion"], obj["kind"], self.namespace, meta["name"])
        params = {"fieldManager": MANAGER, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        await self.api.request(
            "PATCH", path, params=params, body=obj, content_type="application/apply-patch+yaml"
        )

    async def _status(self, name: str) -> None:
        self._serial += 1
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        condition = {
            "type": "Ready",
            "status": "Unknown",
            "reason": "Progressing",
            "message": f"Reconciliation in progress ({self._serial})",
            "lastTransitionTime": now,
        }
        body = {"status": {"conditions": [condition], "lastAttemptedRevision": self.revision}}
        await self.api.patch(
            KUSTOMIZE,
            "Kustomization",
            name,
            self.namespace,
            body,
            manager="gotk-" + MANAGER,
            subresource="status",
        )

    async def _event(self, name: str) -> None:
        self._serial += 1
        about = {
            "apiVersion": KUSTOMIZE,
            "kind": "Kustomization",
            "name": name,
            "namespace": self.namespace,
        }
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{self._serial:x}", "namespace": self.namespace},
            "involvedObject": about,
            "reason": "ReconciliationSucceeded",
            "message": "Reconciliation finished",
            "type": "Normal",
        }
        await self.api.request("POST", f"/api/v1/namespaces/{self.namespace}/events", body=body)
