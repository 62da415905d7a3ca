"""From changes that watches show to keys in the queues.

Role in the flow: the one place that knows who must look again when something changed.
It reads as little of an object as decides that, and never acts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any

from gitwright.api import meta
from gitwright.apply.estate import Estate, Seen
from gitwright.artifact.store import Store
from gitwright.controllers.building import Builder
from gitwright.controllers.crew import KIND as KUSTOMIZATION
from gitwright.controllers.git_repository import KIND as GIT
from gitwright.controllers.kustomization import KustomizationReconciler
from gitwright.core import conditions
from gitwright.core.objects import GVK, JSON
from gitwright.kube.informer import Change, Informer
from gitwright.runtime.controller import Controller, Request

# Repairs before changed objects, those before unchanged ones.
REPAIR, CHANGED, UNCHANGED = 20, 10, 0
# Users of a source looked at in one turn of the loop: a millisecond or two.
SLICE = 25


class Wiring:
    """Connects watches and controllers; made first, connected when all parts are there."""

    def __init__(self) -> None:
        self.watching = False
        self._controllers: dict[GVK, Controller] = {}
        self._parts: tuple[Builder, Store, KustomizationReconciler] | None = None
        self._informer: Informer[JSON] | None = None
        self._informers: tuple[Informer[JSON], ...] = ()

    def connect(
        self,
        kustomizations: Controller,
        repositories: Controller,
        builder: Builder,
        store: Store,
        reconciler: KustomizationReconciler,
    ) -> None:
        """Give the parts that decide whose turn it is."""
        self._controllers = {KUSTOMIZATION: kustomizations, GIT: repositories}
        self._parts = (builder, store, reconciler)

    def watch(self, kustomizations: Informer[JSON], repositories: Informer[JSON], estate: Estate) -> None:
        """Begin to listen; what exists already is looked at too."""
        self.watching = True
        self._informer = kustomizations
        self._informers = (kustomizations, repositories)
        kustomizations.index("source", _source_of)
        kustomizations.index("dependency", _dependencies_of)
        estate.subscribe(self._on_managed)
        kustomizations.subscribe(self._on_kustomization)
        repositories.subscribe(self._on_repository)
        for gvk, informer in ((KUSTOMIZATION, kustomizations), (GIT, repositories)):
            for obj in informer.items():
                self._controllers[gvk].enqueue(_request(obj), UNCHANGED)

    async def synced(self) -> None:
        """Wait until the watches know every object of ours."""
        for informer in self._informers:
            await informer.synced()

    def again(self, gvk: GVK, namespace: str, name: str, after: float) -> None:
        """Ask for another run of an object, seconds from now."""
        self._controllers[gvk].enqueue(Request(namespace, name), REPAIR, after)

    def restored(self, namespace: str, name: str) -> None:
        """Let the users of a GitRepository look again: its files are here (again)."""
        self._users(namespace, name, newer=False)

    def _on_kustomization(self, change: Change[JSON]) -> None:
        request = Request(change.namespace, change.name)
        controller = self._controllers[KUSTOMIZATION]
        if change.new is None or change.old is None:
            controller.enqueue(request, CHANGED)
        elif _asked(change.old, change.new):
            controller.enqueue(request, CHANGED, newer=True)
        self._tell_dependents(change)

    def _tell_dependents(self, change: Change[JSON]) -> None:
        """Let those look again that wait for a Kustomization, the moment it is ready.

        While it is at work, or gone, they are left alone: what is applied already must not
        be called unready each time that something it depends on runs.
        """
        after = _readiness(change.new)
        if self._informer is None or _readiness(change.old) == after:
            return
        name = f"{change.namespace}/{change.name}"
        for dependent in self._informer.by_index("dependency", name):
            if after[:1] == (True,) or _judges(dependent, name):
                self._controllers[KUSTOMIZATION].enqueue(_request(dependent), CHANGED)

    def _on_repository(self, change: Change[JSON]) -> None:
        request = Request(change.namespace, change.name)
        controller = self._controllers[GIT]
        if change.new is None or change.old is None:
            controller.enqueue(request, CHANGED)
        elif _asked(change.old, change.new):
            controller.enqueue(request, CHANGED, newer=True)
        if _artifact(change.old) != _artifact(change.new) or _trouble(change.old) != _trouble(change.new):
            self._users(change.namespace, change.name, newer=True)

    def _users(self, namespace: str, name: str, *, newer: bool) -> None:
        """Enqueue the Kustomizations of a source: those that it changes go first."""
        if self._informer is None:
            return
        users = self._informer.by_index("source", f"{GIT.kind}/{namespace}/{name}")
        self._sort_users(users, 0, [], namespace, name, newer)

    def _sort_users(
        self, users: list[JSON], start: int, unchanged: list[JSON], namespace: str, name: str, newer: bool
    ) -> None:
        """Enqueue changed users, then the others; a slice per turn, so that the loop is never held up."""
        controller = self._controllers[KUSTOMIZATION]
        for user in users[start : start + SLICE]:
            if self._unchanged(user, namespace, name):
                unchanged.append(user)
            else:
                controller.enqueue(_request(user), CHANGED, newer=newer)
        if start + SLICE < len(users):
            rest = partial(self._sort_users, users, start + SLICE, unchanged, namespace, name, newer)
            asyncio.get_running_loop().call_soon(rest)
            return
        for user in unchanged:
            controller.enqueue(_request(user), UNCHANGED, newer=newer)

    def _unchanged(self, user: JSON, namespace: str, name: str) -> bool:
        if self._parts is None:
            return False
        builder, store, reconciler = self._parts
        artifact = store.current(GIT.kind, namespace, name)
        try:
            return artifact is not None and reconciler.remembers(user, artifact, builder)
        except Exception:
            # Only a guess about the order; one poisoned object must not keep the others waiting (S13).
            return False

    def _on_managed(self, seen: Seen) -> None:
        if self._parts is None:
            return
        reconciler = self._parts[2]
        if seen.drifted or (seen.mended and reconciler.unhealthy(seen.owner)):
            request = Request(seen.owner.namespace, seen.owner.name)
            self._controllers[KUSTOMIZATION].enqueue(request, REPAIR)


def _request(obj: JSON) -> Request:
    return Request(str(obj["metadata"]["namespace"]), str(obj["metadata"]["name"]))


def _source_of(obj: JSON) -> Iterable[str]:
    ref = (obj.get("spec") or {}).get("sourceRef") or {}
    yield f"{ref.get('kind')}/{ref.get('namespace') or obj['metadata']['namespace']}/{ref.get('name')}"


def _dependencies_of(obj: JSON) -> Iterable[str]:
    return (name for name, _ in _references(obj))


def _references(obj: JSON) -> Iterable[tuple[str, JSON]]:
    for ref in (obj.get("spec") or {}).get("dependsOn") or ():
        yield f"{ref.get('namespace') or obj['metadata']['namespace']}/{ref.get('name')}", ref


def _judges(obj: JSON, dependency: str) -> bool:
    """Whether an object says by an expression of its own when a dependency is ready."""
    return any(name == dependency and ref.get("readyExpr") for name, ref in _references(obj))


def _asked(old: JSON, new: JSON) -> bool:
    """Whether somebody changed the spec, asked for a run, or began a deletion."""
    before, after = old["metadata"], new["metadata"]
    return (
        before.get("uid") != after.get("uid")
        or before.get("generation") != after.get("generation")
        or before.get("deletionTimestamp") != after.get("deletionTimestamp")
        or (before.get("annotations") or {}).get(meta.REQUESTED_AT)
        != (after.get("annotations") or {}).get(meta.REQUESTED_AT)
    )


def _readiness(obj: JSON | None) -> tuple[Any, ...]:
    if obj is None:
        return ()
    status = obj.get("status") or {}
    ready = conditions.is_true(status.get("conditions") or [], conditions.READY)
    return (ready, status.get("lastAppliedRevision"), status.get("observedGeneration"))


def _trouble(obj: JSON | None) -> Any:
    """What a source without artifact says, which its users show; nothing while it has one."""
    status = (obj or {}).get("status") or {}
    if status.get("artifact"):
        return None
    ready = conditions.get(status.get("conditions") or [], conditions.READY) or {}
    # What only says that work goes on would make its users write their status for nothing.
    return ready.get("message") if ready.get("status") == "False" else None


def _artifact(obj: JSON | None) -> tuple[Any, ...]:
    if obj is None:
        return ()
    artifact = (obj.get("status") or {}).get("artifact") or {}
    return (True, artifact.get("revision"), artifact.get("digest"))
