"""Stands in for a node and its kubelet: binds Pods and makes them run, or fail on request.

Role: life for workloads in a control plane without nodes, written through the API only.
Off unless a test starts it. Knows nothing of gitwright.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

from tests.realcluster.api import JSON, Api, ApiFailure

NODE: Final = "pretend"
# Annotation of a Pod: how it is to fail. One of FAILURES.
FAIL: Final = "gitwright.dev/test-fail"
FAILURES: Final = ("ImagePullBackOff", "CrashLoopBackOff", "NeverReady")

_HEARTBEAT = 10.0
_FINE: Final = ("MemoryPressure", "DiskPressure", "PIDPressure")


class PodActor:
    """Runs Pods on a pretend node while the `with` block lasts; works in a thread of its own.

    A Pod without a node is bound and soon Running and Ready; one that a Job owns then
    succeeds; one that is being deleted goes at once. The annotation
    `gitwright.dev/test-fail` on a Pod (so in a workload's Pod template) makes it fail:

    - `ImagePullBackOff`: stays Pending, its containers wait for an image;
    - `CrashLoopBackOff`: its containers start, end with code 1 and wait;
    - `NeverReady`: runs, and is never ready.

    Args:
        api: makes a fresh client; used in the actor's own event loop.
    """

    def __init__(self, api: Callable[[], Api]) -> None:
        self._api = api
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: asyncio.Task[None] | None = None

    def __enter__(self) -> PodActor:
        self._thread = threading.Thread(target=self._run, name="pods", daemon=True)
        self._thread.start()
        if not self._ready.wait(30) or self._error is not None:
            raise RuntimeError(f"the pretend node did not start: {self._error}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._work is not None:
            self._loop.call_soon_threadsafe(self._work.cancel)
        if self._thread is not None:
            self._thread.join(10)

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._work = asyncio.current_task()
        try:
            async with self._api() as api:
                await _join(api)
                heart = asyncio.create_task(_beat(api))
                self._ready.set()
                try:
                    await _follow(api)
                finally:
                    heart.cancel()
                    await asyncio.gather(heart, return_exceptions=True)
                    await _leave(api)
        except Exception as error:
            self._error = error
            self._ready.set()
            raise


async def _follow(api: Api) -> None:
    """Look at every Pod whenever it changes, for ever."""
    while True:
        with contextlib.suppress(ApiFailure, OSError, asyncio.TimeoutError):
            async for event in api.watch("v1", "Pod"):
                if event["type"] in ("ADDED", "MODIFIED"):
                    with contextlib.suppress(ApiFailure):  # it has changed again, or is gone
                        await _act(api, event["object"])
        await asyncio.sleep(0.2)  # the API server may be restarting


async def _act(api: Api, pod: JSON) -> None:
    meta, spec = pod["metadata"], pod["spec"]
    name, namespace = meta["name"], meta["namespace"]
    if not spec.get("nodeName"):
        if not meta.get("deletionTimestamp"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
            path = await api.path("v1", "Pod", namespace, name)
            await api.request("POST", f"{path}/binding", body=body)
        return
    if spec["nodeName"] != NODE:
        return
    if meta.get("deletionTimestamp"):
        await api.delete("v1", "Pod", name, namespace, grace=0)
        return
    wanted = pod_status(pod, _now())
    if wanted is not None:
        await api.patch(
            "v1",
            "Pod",
            name,
            namespace,
            {"status": wanted},
            manager="kubelet",
            how="strategic",
            subresource="status",
        )


def pod_status(pod: JSON, now: str) -> JSON | None:
    """Give the status that a Pod should have next; None when it has it.

    Args:
        pod: as it is.
        now: RFC 3339.
    """
    fail = pod["metadata"].get("annotations", {}).get(FAIL, "")
    status = pod.get("status", {})
    job = any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences", []))
    seen = status.get("phase"), len(status.get("containerStatuses", []))
    count = len(pod["spec"]["containers"])
    running = ("Pending" if fail == "ImagePullBackOff" else "Running", count)
    if status.get("phase") == "Succeeded" or (seen == running and (fail or not job)):
        return None
    done = job and not fail and seen == running
    state, ready = _container_state(fail, done, now)
    return {
        "phase": "Succeeded" if done else running[0],
        "podIP": "10.244.0.1",
        "podIPs": [{"ip": "10.244.0.1"}],
        "hostIP": "10.0.0.1",
        "startTime": status.get("startTime", now),
        "conditions": [
            _condition("PodScheduled", True, now),
            _condition("Initialized", True, now),
            _condition("ContainersReady", ready, now),
            _condition("Ready", ready, now),
        ],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container.get("image", ""),
                "imageID": "",
                "ready": ready,
                "started": "running" in state,
                "restartCount": 3 if fail == "CrashLoopBackOff" else 0,
                "state": state,
            }
            for container in pod["spec"]["containers"]
        ],
    }


def _container_state(fail: str, done: bool, now: str) -> tuple[JSON, bool]:
    if fail == "ImagePullBackOff":
        return {"waiting": {"reason": fail, "message": "Back-off pulling image"}}, False
    if fail == "CrashLoopBackOff":
        return {"waiting": {"reason": fail, "message": "back-off 40s restarting failed container"}}, False
    if done:
        return {
            "terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}
        }, False
    return {"running": {"startedAt": now}}, fail != "NeverReady"


def _condition(kind: str, fine: bool, now: str) -> JSON:
    return {"type": kind, "status": "True" if fine else "False", "lastTransitionTime": now}


async def _join(api: Api) -> None:
    """Make the node known and ready."""
    now = _now()
    room: dict[str, Any] = {"cpu": "1000", "memory": "1000Gi", "pods": "100000"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    await api.apply(node, manager="kubelet")
    conditions = [_condition(kind, False, now) for kind in _FINE] + [_condition("Ready", True, now)]
    for condition in conditions:
        condition["lastHeartbeatTime"] = now
    status = {"capacity": room, "allocatable": room, "conditions": conditions}
    await api.patch("v1", "Node", NODE, "", {"status": status}, manager="kubelet", subresource="status")
    await _renew(api)


async def _beat(api: Api) -> None:
    """Renew the node's lease, else its Pods would be evicted."""
    while True:
        await asyncio.sleep(_HEARTBEAT)
        with contextlib.suppress(ApiFailure, OSError, asyncio.TimeoutError):
            await _renew(api)


async def _renew(api: Api) -> None:
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NODE, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": _now(micro=True)},
    }
    await api.apply(lease, manager="kubelet")


async def _leave(api: Api) -> None:
    """Take the node away, so that later tests have none."""
    with contextlib.suppress(ApiFailure, OSError, asyncio.TimeoutError):
        await api.delete("v1", "Node", NODE)


def _now(*, micro: bool = False) -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S" + (".%f" if micro else "") + "Z")
