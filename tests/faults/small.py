"""A small application that is installed, upgraded and pruned again and again, and its end states.

Role: what the fault tests do to an engine and how they judge the end. The judgement reads
the API server alone.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Literal

from tests.real.flux import (
    JSON,
    KUSTOMIZE,
    OWNER_NAME,
    SOURCE,
    condition,
    config_map,
    git_repository,
    kustomization,
    request,
    service,
    settled,
)
from tests.realcluster.api import Api, ApiFailure
from tests.servers.git import GitRepo, GitServer

Operation = Literal["install", "upgrade", "prune"]
KINDS = (("v1", "ConfigMap"), ("v1", "Service"))

_KUSTOMIZATION = "resources: [{}]\n"
FIRST = {
    "kustomization.yaml": _KUSTOMIZATION.format("one.yaml, two.yaml, door.yaml"),
    "one.yaml": config_map("one", {"version": "1"}),
    "two.yaml": config_map("two", {"version": "1"}),
    "door.yaml": service("door", 80),
}
# One object is changed, one is left, one is changed, one is new.
SECOND = {
    "kustomization.yaml": _KUSTOMIZATION.format("one.yaml, two.yaml, door.yaml, three.yaml"),
    "one.yaml": config_map("one", {"version": "2"}),
    "door.yaml": service("door", 8080),
    "three.yaml": config_map("three", {"version": "2"}),
}
# Two go, one is changed.
THIRD = {
    "kustomization.yaml": _KUSTOMIZATION.format("one.yaml, three.yaml"),
    "one.yaml": config_map("one", {"version": "3"}),
}
FILES = {"install": FIRST, "upgrade": SECOND, "prune": THIRD}

# The only deletions that Git asks for.
DELETED: dict[Operation, set[str]] = {"install": set(), "upgrade": set(), "prune": {"two", "door"}}


@dataclass(frozen=True, slots=True)
class End:
    """The state that an operation ends in, as far as it may not depend on what happened on the way.

    Args:
        objects: `Kind/name` -> what Git decides of it.
        inventory: ids and versions.
        conditions: type -> status and reason, of the Kustomization.
        applied: whether the last applied revision is that of the last commit.
        history: digest and outcome of the latest entry.
        source: type -> status and reason of the GitRepository's conditions.
        finalizers: of the Kustomization.
    """

    objects: dict[str, JSON]
    inventory: tuple[tuple[str, str], ...]
    conditions: dict[str, tuple[str, str]]
    applied: bool
    history: tuple[str, str]
    source: dict[str, tuple[str, str]]
    finalizers: tuple[str, ...]


@dataclass
class SmallApp:
    """One repository and one namespace.

    Args:
        git: serves the repository.
        namespace: of the application; must exist.
    """

    git: GitServer
    namespace: str
    commit: str = ""
    tokens: int = 0

    def __post_init__(self) -> None:
        self._repo = GitRepo.create(self.git.root, self.namespace)

    async def begin(self, api: Api, operation: Operation) -> None:
        """Do to repository and cluster what starts an operation; returns at once."""
        self.commit = self._repo.commit(dict(FILES[operation]))
        if operation == "install":
            url = self.git.url(self.namespace)
            await api.apply(git_repository("app", self.namespace, url, interval="5s"), manager="test")
            wanted = kustomization(
                "app",
                self.namespace,
                "app",
                interval="30s",
                retryInterval="2s",
                timeout="30s",
                targetNamespace=self.namespace,
                wait=True,
            )
            await api.apply(wanted, manager="test")
            return
        self.tokens += 1
        await request(api, "GitRepository", "app", self.namespace, f"t{self.tokens}")

    async def done(self, api: Api) -> bool:
        """Tell whether both objects say that they are at the last commit."""
        for version, kind in ((SOURCE, "GitRepository"), (KUSTOMIZE, "Kustomization")):
            obj = await api.get(version, kind, "app", self.namespace)
            if obj is None or not settled(obj, self.commit) or condition(obj, "Reconciling"):
                return False
        return True

    async def wait(self, api: Api, patience: float = 60.0) -> None:
        """Wait until `done`.

        Raises:
            AssertionError: it is not within `patience` seconds; with the statuses.
        """
        end = time.monotonic() + patience
        while not await self.done(api):
            assert time.monotonic() < end, f"not done after {patience:g} s: {await self._statuses(api)}"

    async def _statuses(self, api: Api) -> str:
        found = [
            (await api.get(version, kind, "app", self.namespace) or {}).get("status")
            for version, kind in ((SOURCE, "GitRepository"), (KUSTOMIZE, "Kustomization"))
        ]
        return json.dumps(found, ensure_ascii=False)

    async def end(self, api: Api) -> End:
        """See the state that was reached."""
        owner = await api.get(KUSTOMIZE, "Kustomization", "app", self.namespace) or {}
        source = await api.get(SOURCE, "GitRepository", "app", self.namespace) or {}
        status = owner.get("status") or {}
        latest = (status.get("history") or [{}])[0]
        entries = (status.get("inventory") or {}).get("entries") or []
        return End(
            objects=await self._objects(api),
            inventory=tuple((self._plain(entry["id"]), entry["v"]) for entry in entries),
            conditions=_conditions(owner),
            applied=self.commit in status.get("lastAppliedRevision", ""),
            # The namespace is part of what is built, and so of its digest.
            history=(str(len(latest.get("digest", ""))), latest.get("lastReconciledStatus", "")),
            source=_conditions(source),
            finalizers=tuple(owner.get("metadata", {}).get("finalizers") or ()),
        )

    async def _objects(self, api: Api) -> dict[str, JSON]:
        """Give what Git decides of each object in the namespace that carries our labels."""
        found: dict[str, JSON] = {}
        for version, kind in KINDS:
            for obj in await api.list(version, kind, self.namespace, labels=OWNER_NAME):
                managers = sorted({entry["manager"] for entry in obj["metadata"]["managedFields"]})
                found[f"{kind}/{obj['metadata']['name']}"] = {
                    "data": obj.get("data"),
                    "ports": (obj.get("spec") or {}).get("ports"),
                    "owner": obj["metadata"]["labels"][OWNER_NAME],
                    "managers": managers,
                }
        return found

    async def uids(self, api: Api) -> dict[str, str]:
        """Give the uid of each object in the namespace that carries our labels, by `Kind/name`."""
        return {
            f"{kind}/{obj['metadata']['name']}": obj["metadata"]["uid"]
            for version, kind in KINDS
            for obj in await api.list(version, kind, self.namespace, labels=OWNER_NAME)
        }

    def _plain(self, text: Any) -> str:
        return str(text).replace(self.namespace, "NS")

    async def end_of_life(self, api: Api) -> None:
        """Delete both objects, which takes the application away."""
        for version, kind in ((KUSTOMIZE, "Kustomization"), (SOURCE, "GitRepository")):
            await api.delete(version, kind, "app", self.namespace)


def _conditions(obj: JSON) -> dict[str, tuple[str, str]]:
    found = (obj.get("status") or {}).get("conditions") or []
    return {item["type"]: (item["status"], item["reason"]) for item in found}


async def make_namespace(api: Api, name: str) -> None:
    """Make a namespace."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    try:
        await api.request("POST", "/api/v1/namespaces", body=body)
    except ApiFailure as failure:
        if failure.reason != "AlreadyExists":
            raise
