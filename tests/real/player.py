"""Plays the recordings of what Flux did against the cluster, and sees what gitwright does.

Role: one generic player for every file of the corpus `flux-recordings`, as its README
defines steps and snapshots. What a snapshot shows and what counts as a difference is
decided elsewhere. Knows no recording by name.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.real.scrub import delete_cluster_scoped, scrub, wait_gone
from tests.real.snapshots import KINDS, Normaliser, belongs, distinct, event_text, kind_of, view
from tests.realcluster.api import Api, ApiFailure
from tests.servers.git import GitRepo, GitServer

JSON = dict[str, Any]
WAIT = 40.0
_POLL = 0.15
_TRIGGER = "reconcile.fluxcd.io/requestedAt"


class PlayError(AssertionError):
    """A step did not happen in time."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One scenario and what Flux made of it.

    Args:
        name: of the scenario; its namespace is `s-<name>`.
        steps: one-key objects, played in order.
        snapshots: label -> what was seen.
    """

    name: str
    steps: tuple[JSON, ...]
    snapshots: Mapping[str, JSON]

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a file of the corpus."""
        found = json.loads(path.read_text())
        return cls(found["name"], tuple(found["steps"]), found["snapshots"])

    @property
    def namespace(self) -> str:
        """The scenario's namespace."""
        return f"s-{self.name}"

    @property
    def has_helm(self) -> bool:
        """Whether the scenario is about a kind of Helm."""
        return any(step.get("apply", {}).get("kind", "").startswith("Helm") for step in self.steps)

    @property
    def waits(self) -> int:
        """How many steps wait for a health check to run out; such recordings take the longest."""
        return sum(step.get("wait", {}).get("reason") == "HealthCheckFailed" for step in self.steps)


@dataclass
class Player:
    """Plays one recording once.

    Args:
        recording: what to play.
        api: of an administrator; acts with the field managers that the steps name.
        git: server that the scenario's repositories are made on.
        folders: folders of the engine's temporary folders.
        slowness: factor on the times that steps may take, for slow machines.
    """

    recording: Recording
    api: Api
    git: GitServer
    folders: Sequence[str] = ()
    slowness: float = 2.0
    _repositories: dict[str, GitRepo] = field(default_factory=dict)
    _commits: list[str] = field(default_factory=list)
    _nudges: int = 0
    _cluster_scoped: dict[tuple[str, str], None] = field(default_factory=dict)
    _events: list[str] = field(default_factory=list)

    async def play(self) -> dict[str, JSON]:
        """Play all steps in a fresh namespace and give the snapshots, normalised; cleans up.

        Raises:
            PlayError: a step did not happen in time.
            ApiFailure: the API server refused a step.
        """
        namespace = self.recording.namespace
        await self._fresh_namespace()
        listener = asyncio.create_task(self._listen())
        shown: dict[str, JSON] = {}
        try:
            for number, step in enumerate(self.recording.steps, 1):
                try:
                    await self._step(step, shown)
                except PlayError as error:
                    raise PlayError(f"step {number} of {self.recording.name}: {error}") from None
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            await scrub(self.api, namespace, patience=10.0 * self.slowness)
            for kind, name in self._cluster_scoped:
                await delete_cluster_scoped(self.api, kind, name)
        return shown

    async def _fresh_namespace(self) -> None:
        namespace = self.recording.namespace
        if await self.api.get("v1", "Namespace", namespace) is not None:
            await scrub(self.api, namespace)
            await wait_gone(self.api, "v1", "Namespace", namespace)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        await self.api.request("POST", "/api/v1/namespaces", body=body)

    async def _step(self, step: JSON, shown: dict[str, JSON]) -> None:
        ((verb, raw),) = step.items()
        value = self._filled(raw)
        match verb:
            case "push":
                await asyncio.to_thread(self._push, value)
            case "apply":
                await self._apply(value)
            case "patch":
                await self._patch(value)
            case "delete":
                kind, name = value.split("/", 1)
                await self.api.delete(kind_of(kind), kind, name, self.recording.namespace)
            case "nudge":
                self._nudges += 1
                mark = {"metadata": {"annotations": {_TRIGGER: f"t{self._nudges}"}}}
                await self._patch({"ref": value, "body": mark})
            case "wait":
                await self._wait(value)
            case "watch_cluster":
                self._cluster_scoped[value["kind"], value["name"]] = None
            case "sleep":
                await asyncio.sleep(value)
            case "snapshot":
                await asyncio.sleep(1)
                shown[value] = await self._snapshot()
            case _:
                raise PlayError(f"no such step: {verb}")

    def _filled(self, value: Any) -> Any:
        """Put the namespace and the repositories' URLs into every text of a step."""
        if isinstance(value, str):
            value = value.replace("{ns}", self.recording.namespace)
            while (start := value.find("{url:")) >= 0:
                end = value.index("}", start)
                value = value[:start] + self._url(value[start + 5 : end]) + value[end + 1 :]
            return value
        if isinstance(value, dict):
            return {self._filled(key): self._filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        return value

    def _url(self, repository: str) -> str:
        return self.git.url(f"{self.recording.name}-{repository}")

    # -- steps -----------------------------------------------------------------------------

    def _push(self, value: JSON) -> None:
        name = value.get("repo", "repo")
        if name not in self._repositories:
            self._repositories[name] = GitRepo.create(self.git.root, f"{self.recording.name}-{name}")
        commit = self._repositories[name].commit(
            value["files"],
            message=f"commit {len(self._commits) + 1}",
            branch=value.get("branch", "main"),
            tag=value.get("tag", ""),
            replace=value.get("replace", False),
        )
        self._commits.append(commit)

    async def _apply(self, value: JSON) -> None:
        obj = {key: item for key, item in value.items() if key != "manager"}
        _, namespaced = await self.api.resource(obj["apiVersion"], obj["kind"])
        if namespaced:
            obj["metadata"] = {"namespace": self.recording.namespace} | obj["metadata"]
        else:
            self._cluster_scoped[obj["kind"], obj["metadata"]["name"]] = None
        await self.api.apply(obj, manager=value.get("manager", "user"))

    async def _patch(self, value: JSON) -> None:
        kind, name = value["ref"].split("/", 1)
        manager, how = value.get("manager", "user"), value.get("type", "merge")
        namespace = self.recording.namespace
        await self.api.patch(kind_of(kind), kind, name, namespace, value["body"], manager=manager, how=how)

    async def _wait(self, value: JSON) -> None:
        kind, name = value["ref"].split("/", 1)
        patience = float(value.get("timeout", WAIT)) * self.slowness
        end = time.monotonic() + patience
        while True:
            obj = await self.api.get(kind_of(kind), kind, name, self.recording.namespace)
            if reached(value, obj, self._commits):
                return
            if time.monotonic() > end:
                state = json.dumps((obj or {}).get("status"), ensure_ascii=False)
                raise PlayError(f"did not happen within {patience:g} s: {value}; status: {state}")
            await asyncio.sleep(_POLL)

    # -- seeing ----------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Collect the Events on objects of Flux in the order in which they appear."""
        while True:
            try:
                async for change in self.api.watch("v1", "Event", self.recording.namespace):
                    if change["type"] in ("ADDED", "MODIFIED") and (text := event_text(change["object"])):
                        self._events.append(text)
            except (ApiFailure, OSError, TimeoutError):
                pass
            await asyncio.sleep(0.2)

    async def _snapshot(self) -> JSON:
        listed = await asyncio.gather(*(self._list(*pair) for pair in KINDS))
        found = [obj for objects in listed for obj in objects if belongs(obj)]
        for kind, name in self._cluster_scoped:
            obj = await self.api.get(kind_of(kind), kind, name)
            if obj is not None:
                found.append(obj)
        normaliser = self.normaliser()
        objects = {f"{obj['kind']}/{obj['metadata']['name']}": view(obj) for obj in found}
        return {
            "objects": normaliser.value(objects),
            "events": distinct(map(normaliser.text, self._events)),
        }

    async def _list(self, api_version: str, kind: str) -> list[JSON]:
        try:
            return await self.api.list(api_version, kind, self.recording.namespace)
        except LookupError:  # a kind that no scenario has defined
            return []
        except ApiFailure as failure:
            if failure.status == 404:  # one that another scenario had defined
                return []
            raise

    def normaliser(self) -> Normaliser:
        """Give what makes texts of this run comparable."""
        name = self.recording.name
        repositories = {*self._repositories, *_named_repositories(self.recording.steps)}
        urls = {self._url(repo): f"http://git/{name}-{repo}.git" for repo in repositories}
        return Normaliser(self.recording.namespace, urls, self._commits, self.folders)


def reached(value: JSON, obj: JSON | None, commits: Sequence[str]) -> bool:
    """Tell whether an object is in the state that a `wait` step asks for.

    Args:
        value: the step's value.
        obj: the object, None when it does not exist.
        commits: ids of the pushes so far.
    """
    until = value["until"]
    if obj is None or until in ("exists", "gone"):
        return bool(until == ("gone" if obj is None else "exists"))
    if isinstance(until, dict):
        return all(_pointed(obj, pointer) == wanted for pointer, wanted in until.items())
    status = obj.get("status", {})
    ready: JSON = next((item for item in status.get("conditions", []) if item["type"] == "Ready"), {})
    if ready.get("status") != ("True" if until == "ready" else "False"):
        return False
    if until == "ready" and not _observed(obj, ready):
        return False
    if "reason" in value and ready.get("reason") != value["reason"]:
        return False
    if "message" in value and value["message"] not in ready.get("message", ""):
        return False
    if "revision" in value and not _has_revision(status, commits, value["revision"]):
        return False
    asked = obj["metadata"].get("annotations", {}).get(_TRIGGER)
    return not value.get("handled") or status.get("lastHandledReconcileAt") == asked


def _observed(obj: JSON, ready: JSON) -> bool:
    present = obj["metadata"].get("generation", 0)
    status = obj.get("status", {})
    return bool(status.get("observedGeneration") == present == ready.get("observedGeneration", present))


def _has_revision(status: JSON, commits: Sequence[str], name: str) -> bool:
    number = int(name.removeprefix("c"))
    if number > len(commits):
        return False
    places = (
        status.get("lastAppliedRevision", ""),
        status.get("lastAttemptedRevision", ""),
        status.get("artifact", {}).get("revision", ""),
    )
    return any(commits[number - 1] in place for place in places)


def _pointed(value: Any, pointer: str) -> Any:
    for raw in pointer.split("/")[1:]:
        part = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            return None
    return value


def _named_repositories(value: Any) -> set[str]:
    """Give the repositories that steps name by `{url:NAME}`, made or not."""
    if isinstance(value, str):
        return {part.partition("}")[0] for part in value.split("{url:")[1:]}
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return {name for item in items for name in _named_repositories(item)}
