"""What a test does to an engine, and how it sees what becomes of it.

Role: a namespace with Git repositories and Flux objects in it, on a cluster where an engine
runs; every wait is a watch. Also: the whole contents of a cluster for a comparison, and the
rule that the status of each of our objects obeys kstatus. Knows the API, and nothing of the
engine's inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

from tests.realcluster.api import JSON, Api, ApiFailure
from tests.servers.git import Content, GitRepo, GitServer

VERSIONS: Final = {
    "GitRepository": "source.toolkit.fluxcd.io/v1",
    "Kustomization": "kustomize.toolkit.fluxcd.io/v1",
    "ConfigMap": "v1",
    "Secret": "v1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "Event": "v1",
    "Namespace": "v1",
    "Deployment": "apps/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "ClusterRole": "rbac.authorization.k8s.io/v1",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1",
    "Lease": "coordination.k8s.io/v1",
}
REQUESTED: Final = "reconcile.fluxcd.io/requestedAt"
PATIENCE: Final = 30.0
# What Kubernetes itself rewrites all the time.
_RESTLESS: Final = ("events", "leases", "componentstatuses")
_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
_STATUSES: Final = ("True", "False", "Unknown")


class NotSeenError(AssertionError):
    """What was waited for did not happen in time."""


def config_map(name: str, **data: str) -> str:
    """Give the YAML of a ConfigMap without a namespace."""
    lines = [f"  {key}: {json.dumps(value)}" for key, value in data.items()]
    return "\n".join(
        ["apiVersion: v1", "kind: ConfigMap", f"metadata: {{name: {name}}}", "data:", *lines, ""]
    )


def condition(obj: JSON, kind: str) -> JSON:
    """Give a condition of an object, or an empty one."""
    found = (obj.get("status") or {}).get("conditions") or []
    return next((item for item in found if item["type"] == kind), {})


def inventory(obj: JSON) -> set[str]:
    """Give the ids in a Kustomization's inventory."""
    entries = ((obj.get("status") or {}).get("inventory") or {}).get("entries") or []
    return {str(entry["id"]) for entry in entries}


def check_kstatus(obj: JSON) -> None:
    """Raise AssertionError unless an object's status obeys kstatus.

    Source: sigs.k8s.io/cli-utils/pkg/kstatus README; spec/flux-v2.md 3.2: ready is never
    said beside Reconciling or Stalled, and never of an older generation; Stalled is
    never said while it goes on.
    """
    status = obj.get("status") or {}
    conditions = status.get("conditions") or []
    found = {item["type"]: item for item in conditions}
    about = json.dumps(status, indent=1)
    assert len(found) == len(conditions), f"a condition stands twice: {about}"
    generation = obj["metadata"]["generation"]
    for item in conditions:
        assert item["status"] in _STATUSES, about
        assert _REASON.fullmatch(item["reason"]), about
        assert item["lastTransitionTime"], about
        assert 0 < item["observedGeneration"] <= generation, about
    states = {kind: item["status"] for kind, item in found.items()}
    assert "Ready" in states, about
    if states["Ready"] == "True":
        assert states.get("Reconciling") != "True", about
        assert states.get("Stalled") != "True", about
        assert status["observedGeneration"] == generation, about
    if states.get("Stalled") == "True":
        assert states["Ready"] == "False", about
        assert states.get("Reconciling") != "True", about
        assert status["observedGeneration"] == generation, about


@asynccontextmanager
async def watching(
    api: Api, kind: str, namespace: str, version: str = ""
) -> AsyncIterator[AsyncIterator[JSON]]:
    """Open a watch, and close it at the end of the block.

    Args:
        api: of an administrator.
        kind: one of `VERSIONS`.
        namespace: empty for all.
        version: resource version to begin after; empty begins with what exists.
    """
    stream = cast("AsyncGenerator[JSON, None]", api.watch(VERSIONS[kind], kind, namespace, version))
    async with contextlib.aclosing(stream):
        yield stream


@dataclass
class Scene:
    """A namespace in which a test works.

    Args:
        api: of an administrator.
        namespace: where its objects are.
        git: serves its repositories.
    """

    api: Api
    namespace: str
    git: GitServer
    _repositories: dict[str, GitRepo] = field(default_factory=dict)
    _nudges: int = 0

    # -- acting ----------------------------------------------------------------------------

    def repository(self, name: str = "repo") -> GitRepo:
        """Give the Git repository of that name, made when it is asked for first."""
        if name not in self._repositories:
            self._repositories[name] = GitRepo.create(self.git.root, f"{self.namespace}-{name}")
        return self._repositories[name]

    def url(self, name: str = "repo") -> str:
        """Give the URL of that repository."""
        return self.git.url(f"{self.namespace}-{name}")

    async def source(self, name: str = "repo", *, url: str = "", **spec: Any) -> JSON:
        """Apply a GitRepository of branch main as the user would."""
        body = {"interval": "10m", "url": url or self.url(name), "ref": {"branch": "main"}, **spec}
        return await self.apply("GitRepository", name, spec=body)

    async def kustomization(self, name: str = "app", *, source: str = "repo", **spec: Any) -> JSON:
        """Apply a Kustomization of a source as the user would; objects go to the scene's namespace."""
        body = {
            "interval": "10m",
            "retryInterval": "2s",
            "timeout": "8s",
            "prune": True,
            "path": "./app",
            "targetNamespace": self.namespace,
            "sourceRef": {"kind": "GitRepository", "name": source},
            **spec,
        }
        return await self.apply("Kustomization", name, spec=body)

    async def apply(self, kind: str, name: str, namespace: str = "", **content: Any) -> JSON:
        """Apply an object on the server's side as the user; content beside apiVersion, kind and metadata."""
        metadata = {"name": name, "namespace": namespace or self.namespace}
        body = {"apiVersion": VERSIONS[kind], "kind": kind, "metadata": metadata, **content}
        return await self.api.apply(body, manager="user")

    def commit(self, files: Mapping[str, Content], repo: str = "repo", *, replace: bool = False) -> str:
        """Commit files; gives the revision as Flux writes it."""
        return f"main@sha1:{self.repository(repo).commit(files, replace=replace)}"

    async def push(self, files: Mapping[str, Content], repo: str = "repo", *, replace: bool = False) -> str:
        """Commit files and have the source of that name look at once; gives the revision."""
        revision = self.commit(files, repo, replace=replace)
        await self.nudge("GitRepository", repo)
        return revision

    async def nudge(self, kind: str, name: str) -> str:
        """Ask for a run now; gives the value that the status will name when it was handled."""
        self._nudges += 1
        value = f"{self.namespace}-{self._nudges}"
        body = {"metadata": {"annotations": {REQUESTED: value}}}
        await self.api.patch(VERSIONS[kind], kind, name, self.namespace, body)
        return value

    async def delete(self, kind: str, name: str) -> None:
        """Delete an object in the background."""
        await self.api.delete(VERSIONS[kind], kind, name, self.namespace)

    async def bind(self, account: str, *rules: JSON, namespace: str = "") -> None:
        """Let a service account of the scene's namespace do things in a namespace (its own if empty)."""
        where, group = namespace or self.namespace, "rbac.authorization.k8s.io"
        await self.apply("Role", account, where, rules=list(rules))
        subject = {"kind": "ServiceAccount", "name": account, "namespace": self.namespace}
        reference = {"apiGroup": group, "kind": "Role", "name": account}
        await self.apply("RoleBinding", account, where, roleRef=reference, subjects=[subject])

    # -- seeing ----------------------------------------------------------------------------

    async def get(self, kind: str, name: str, namespace: str = "") -> JSON | None:
        """Read an object; None when it does not exist."""
        return await self.api.get(VERSIONS[kind], kind, name, namespace or self.namespace)

    async def until(
        self,
        kind: str,
        name: str,
        meets: Callable[[JSON | None], bool],
        what: str,
        *,
        namespace: str = "",
        patience: float = PATIENCE,
    ) -> JSON:
        """Watch an object until it is as wanted; gives it as it was then, `{}` when it is gone.

        Raises:
            NotSeenError: not within `patience` seconds; with the last state.
        """
        where = namespace or self.namespace
        path = await self.api.path(VERSIONS[kind], kind, where)
        listed = await self.api.request("GET", path)
        last = next((item for item in listed["items"] if item["metadata"]["name"] == name), None)
        if meets(last):
            return last or {}
        version = listed["metadata"]["resourceVersion"]
        try:
            async with asyncio.timeout(patience), watching(self.api, kind, where, version) as events:
                async for event in events:
                    if event["object"]["metadata"]["name"] != name:
                        continue
                    last = None if event["type"] == "DELETED" else event["object"]
                    if meets(last):
                        return last or {}
        except TimeoutError:
            pass
        shown = json.dumps((last or {}).get("status") or last, indent=1)[:6000]
        raise NotSeenError(f"{kind}/{where}/{name}: {what}: not within {patience:g} s; last seen: {shown}")

    async def ready(self, kind: str, name: str, revision: str = "", patience: float = PATIENCE) -> JSON:
        """Wait until an object of ours is ready, at a revision if one is named, and obeys kstatus."""

        def meets(obj: JSON | None) -> bool:
            if (
                obj is None
                or obj.get("status", {}).get("observedGeneration") != obj["metadata"]["generation"]
            ):
                return False
            status = obj["status"]
            at = status.get("lastAppliedRevision") or (status.get("artifact") or {}).get("revision")
            return condition(obj, "Ready").get("status") == "True" and (not revision or at == revision)

        found = await self.until(kind, name, meets, f"ready {revision}", patience=patience)
        check_kstatus(found)
        return found

    async def failed(
        self, kind: str, name: str, reason: str, begins: str = "", patience: float = PATIENCE
    ) -> str:
        """Wait until Ready is False for a reason, with a message that begins so; gives the message.

        Also checks that the status obeys kstatus.
        """

        def meets(obj: JSON | None) -> bool:
            ready = condition(obj or {}, "Ready")
            return (
                obj is not None
                and (ready.get("status"), ready.get("reason")) == ("False", reason)
                and ready["observedGeneration"] == obj["metadata"]["generation"]
                and str(ready["message"]).startswith(begins)
            )

        found = await self.until(kind, name, meets, f"{reason}: {begins}...", patience=patience)
        check_kstatus(found)
        return str(condition(found, "Ready")["message"])

    async def gone(self, kind: str, name: str, namespace: str = "", patience: float = PATIENCE) -> None:
        """Wait until an object does not exist."""
        await self.until(kind, name, lambda obj: obj is None, "gone", namespace=namespace, patience=patience)

    async def has(self, kind: str, name: str, **data: Any) -> JSON:
        """Wait until an object exists, and its `data` has these values."""

        def meets(obj: JSON | None) -> bool:
            return obj is not None and data.items() <= (obj.get("data") or {}).items()

        return await self.until(kind, name, meets, f"has {data}")

    async def events(self, kind: str, name: str) -> list[JSON]:
        """Read the Events about an object."""
        found = await self.api.list("v1", "Event", self.namespace)
        return [event for event in found if _is_about(event, kind, name)]

    async def event(
        self, kind: str, name: str, reason: str, begins: str = "", *, level: str = "Warning"
    ) -> JSON:
        """Wait for an Event about an object whose message begins so.

        Raises:
            NotSeenError: it does not come in time; with the Events that did.
        """

        def meets(event: JSON) -> bool:
            wanted = (event["type"], event["reason"]) == (level, reason)
            return wanted and _is_about(event, kind, name) and str(event["message"]).startswith(begins)

        seen: list[str] = []
        try:
            async with asyncio.timeout(PATIENCE), watching(self.api, "Event", self.namespace) as events:
                async for found in events:
                    event: JSON = found["object"]
                    if meets(event):
                        return event
                    seen.append(f"{event['type']} {event['reason']}: {event['message']}")
        except TimeoutError:
            pass
        raise NotSeenError("\n".join([f"no event {level} {reason}: {begins}...; there are:", *seen]))

    async def said(self) -> str:
        """Give everything that objects of ours and Events of the namespace say now, as one text."""
        parts: list[Any] = [event["message"] for event in await self.api.list("v1", "Event", self.namespace)]
        for kind in ("GitRepository", "Kustomization"):
            parts += [obj.get("status") for obj in await self.api.list(VERSIONS[kind], kind, self.namespace)]
        return json.dumps(parts)


def _is_about(event: JSON, kind: str, name: str) -> bool:
    about = event["involvedObject"]
    return bool(about["kind"] == kind and about["name"] == name)


@dataclass
class Bystander:
    """A healthy Kustomization in a namespace of its own, which must go on working whatever others do.

    Args:
        namespace: its namespace, made already.
        git: serves its repository.
    """

    namespace: str
    git: GitServer
    _scene: Scene | None = None
    _count: int = 0

    async def works(self, api: Api) -> None:
        """Commit something new, and see it in the cluster and in the status."""
        first = self._scene is None
        scene = self._scene or Scene(api, self.namespace, self.git)
        scene.api, self._scene = api, scene
        self._count += 1
        value = str(self._count)
        revision = scene.commit({"app/well.yaml": config_map("well", count=value)}, "well")
        if first:
            await scene.source("well")
            await scene.kustomization("well", source="well")
        else:
            await scene.nudge("GitRepository", "well")
        await scene.has("ConfigMap", "well", count=value)
        await scene.ready("Kustomization", "well", revision)


async def contents(api: Api, without: Collection[str] = ()) -> dict[str, str]:
    """Give everything that a cluster holds: `apiVersion Kind namespace/name uid` -> digest.

    Status, managed fields and what Kubernetes rewrites all the time are left out of it.

    Args:
        api: of an administrator.
        without: namespaces to leave out, with all that is in them.
    """
    found: dict[str, str] = {}
    for version, plural, kind in await _resources(api):
        prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
        for item in (await api.request("GET", f"{prefix}/{plural}")).get("items") or []:
            meta = item["metadata"]
            namespace = meta.get("namespace", "")
            if namespace in without or (kind == "Namespace" and meta["name"] in without):
                continue
            key = f"{version} {kind} {namespace}/{meta['name']} {meta.get('uid', '')}"
            hidden = ("resourceVersion", "managedFields", "generation")
            bare = {name: value for name, value in item.items() if name not in ("status", "metadata")}
            bare["metadata"] = {name: value for name, value in meta.items() if name not in hidden}
            found[key] = hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()
    return found


async def _resources(api: Api) -> list[tuple[str, str, str]]:
    """Give apiVersion, plural and kind of everything that can be listed, each kind once."""
    versions = ["v1"]
    versions += [
        group["preferredVersion"]["groupVersion"] for group in (await api.request("GET", "/apis"))["groups"]
    ]
    found = []
    for version in versions:
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        try:
            listed = (await api.request("GET", path))["resources"]
        except ApiFailure:
            continue  # a group that is going away
        found += [
            (version, item["name"], item["kind"])
            for item in listed
            if "list" in item["verbs"] and "/" not in item["name"] and item["name"] not in _RESTLESS
        ]
    return found


async def settles(
    api: Api, wanted: Mapping[str, str], without: Collection[str], patience: float = 30.0
) -> None:
    """Wait until the cluster holds exactly what it held before.

    Raises:
        NotSeenError: it still differs after `patience` seconds; with the differences.
    """
    end = time.monotonic() + patience
    while True:
        now = await contents(api, without)
        if now == wanted:
            return
        if time.monotonic() > end:
            lines = [f"missing: {key}" for key in wanted.keys() - now.keys()]
            lines += [f"more: {key}" for key in now.keys() - wanted.keys()]
            lines += [f"changed: {key}" for key in now.keys() & wanted.keys() if now[key] != wanted[key]]
            raise NotSeenError("\n".join(["the cluster is not as it was:", *sorted(lines)]))
        # Kubernetes' own garbage collector gives no sign when it is done.
        await asyncio.sleep(0.5)
