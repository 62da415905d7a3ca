"""Objects of Flux's kinds as tests write them, and the patience to see them settle.

Role: shared by tests that make their own scenario instead of playing a recording. Knows
what a finished status looks like and nothing of the engine.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tests.realcluster.api import Api

JSON = dict[str, Any]

SOURCE = "source.toolkit.fluxcd.io/v1"
KUSTOMIZE = "kustomize.toolkit.fluxcd.io/v1"
REQUESTED = "reconcile.fluxcd.io/requestedAt"
OWNER_NAME = "kustomize.toolkit.fluxcd.io/name"


def git_repository(name: str, namespace: str, url: str, **spec: Any) -> JSON:
    """Give a GitRepository of branch main; `spec` overrides and adds fields."""
    wanted = {"interval": "10m", "url": url, "ref": {"branch": "main"}, **spec}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": SOURCE, "kind": "GitRepository", "metadata": metadata, "spec": wanted}


def kustomization(name: str, namespace: str, source: str, **spec: Any) -> JSON:
    """Give a Kustomization of a GitRepository that prunes; `spec` overrides and adds fields."""
    reference = {"kind": "GitRepository", "name": source}
    wanted = {"interval": "10m", "prune": True, "path": "./", "sourceRef": reference, **spec}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": KUSTOMIZE, "kind": "Kustomization", "metadata": metadata, "spec": wanted}


def config_map(name: str, data: Mapping[str, str]) -> str:
    """Give the YAML (which JSON is) of a ConfigMap for a repository."""
    return json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(data)}
    )


def service(name: str, port: int) -> str:
    """Give the YAML (which JSON is) of a Service without a selector for a repository."""
    spec = {"ports": [{"name": "http", "port": port}]}
    return json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})


def condition(obj: JSON | None, kind: str = "Ready") -> JSON:
    """Give a condition of an object, or an empty one."""
    found = ((obj or {}).get("status") or {}).get("conditions") or []
    return next((item for item in found if item["type"] == kind), {})


def settled(obj: JSON | None, commit: str = "", token: str = "") -> bool:
    """Tell whether an object of Flux is ready for its present spec.

    Args:
        obj: the object; None when it does not exist.
        commit: it must also be at this commit.
        token: it must also have handled this request.
    """
    if obj is None or condition(obj).get("status") != "True":
        return False
    status = obj["status"]
    if status.get("observedGeneration") != obj["metadata"]["generation"]:
        return False
    revision = status.get("lastAppliedRevision") or (status.get("artifact") or {}).get("revision") or ""
    return commit in revision and (not token or status.get("lastHandledReconcileAt") == token)


async def until(check: Callable[[], Awaitable[bool]], what: str, patience: float = 60.0) -> None:
    """Wait until `check` gives true.

    Raises:
        AssertionError: it did not within `patience` seconds.
    """
    end = time.monotonic() + patience
    while not await check():
        assert time.monotonic() < end, f"did not happen within {patience:g} s: {what}"
        await asyncio.sleep(0.1)


async def wait_settled(
    api: Api,
    kind: str,
    name: str,
    namespace: str,
    *,
    commit: str = "",
    token: str = "",
    patience: float = 60.0,
) -> JSON:
    """Wait until a GitRepository or Kustomization is settled and give it; see `settled`.

    Raises:
        AssertionError: it is not within `patience` seconds; with its status.
    """
    version = SOURCE if kind == "GitRepository" else KUSTOMIZE
    end = time.monotonic() + patience
    while True:
        obj = await api.get(version, kind, name, namespace)
        if obj is not None and settled(obj, commit, token):
            return obj
        status = json.dumps((obj or {}).get("status"), ensure_ascii=False)
        assert time.monotonic() < end, f"{kind}/{name} is not settled after {patience:g} s: {status}"
        await asyncio.sleep(0.1)


async def wait_refused(
    api: Api, kind: str, name: str, namespace: str, *, reason: str = "", patience: float = 60.0
) -> JSON:
    """Wait until the Ready condition of an object of Flux is False, with a reason, and give the object.

    Raises:
        AssertionError: it is not within `patience` seconds; with its status.
    """
    version = SOURCE if kind == "GitRepository" else KUSTOMIZE
    end = time.monotonic() + patience
    while True:
        obj = await api.get(version, kind, name, namespace)
        ready = condition(obj)
        if obj is not None and ready.get("status") == "False" and reason in ready.get("reason", ""):
            return obj
        status = json.dumps((obj or {}).get("status"), ensure_ascii=False)
        assert time.monotonic() < end, f"{kind}/{name} is not refused after {patience:g} s: {status}"
        await asyncio.sleep(0.1)


async def request(api: Api, kind: str, name: str, namespace: str, token: str) -> None:
    """Ask for a reconciliation by annotation, as `flux reconcile` does."""
    version = SOURCE if kind == "GitRepository" else KUSTOMIZE
    body = {"metadata": {"annotations": {REQUESTED: token}}}
    await api.patch(version, kind, name, namespace, body, manager="flux")
