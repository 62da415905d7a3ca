"""Garbage that the API server lets pass stops nobody but itself, and a restart is healthy (S13)."""

from __future__ import annotations

import asyncio
import collections
import json
from typing import Any

from tests.real.conftest import EngineFactory
from tests.real.flux import (
    JSON,
    KUSTOMIZE,
    REQUESTED,
    SOURCE,
    condition,
    config_map,
    git_repository,
    kustomization,
    wait_settled,
)
from tests.realcluster.api import Api, ApiFailure
from tests.servers.git import GitRepo, GitServer

LONG = "99999999h"
# None of these may end the process, whatever it makes of the object itself.
KUSTOMIZATIONS: dict[str, JSON] = {
    "eternal": {"interval": LONG, "timeout": LONG, "retryInterval": LONG},
    "hasty": {"interval": "0s", "retryInterval": "0s", "timeout": "0s"},
    "busy": {"interval": "5ms", "retryInterval": "5ms"},
    "fraction": {"interval": "0.000000000001ms", "timeout": "0.0000001ms"},
    "long-number": {"interval": "9" * 400 + "h"},
    "no-source": {"sourceRef": {"kind": "GitRepository", "name": ""}},
    "odd-source": {"sourceRef": {"kind": "Bucket", "name": "../../x"}},
    "odd-source-space": {"sourceRef": {"kind": "GitRepository", "name": "app", "namespace": "../x"}},
    "path-out": {"path": "../../../etc"},
    "path-nul": {"path": "./a\u0001b\u202e/\u2603"},
    "path-long": {"path": "./" + "a/" * 5000},
    "odd-prefix": {"namePrefix": "A_%s\\", "nameSuffix": "\u2603"},
    "odd-space": {"targetNamespace": "Not/A Namespace"},
    "odd-patch": {"patches": [{"patch": "{{{[", "target": {"kind": "(("}}]},
    "odd-patch-name": {"patches": [{"patch": "- op: nonsense\n  path: //\n", "target": {"name": "(?=x)["}}]},
    "odd-image": {"images": [{"name": "\\", "newTag": "{{", "digest": "sha256"}]},
    "odd-component": {"components": ["/etc", "https://[::1", "..\\.."]},
    "odd-values": {"postBuild": {"substitute": {"a b": "${", "x": "${x:=${x}}"}}},
    "odd-values-from": {
        "postBuild": {"substituteFrom": [{"kind": "Secret", "name": "..", "optional": True}]}
    },
    "odd-check": {"healthChecks": [{"apiVersion": "///", "kind": "", "name": "", "namespace": ""}]},
    "odd-kind-check": {"healthChecks": [{"apiVersion": "v1", "kind": "../../x", "name": "%2e%2e"}]},
    "odd-expression": {"healthCheckExprs": [{"apiVersion": "v1", "kind": "X", "current": "((("}]},
    "deep-expression": {"healthCheckExprs": [{"apiVersion": "v1", "kind": "X", "current": "[" * 900}]},
    "itself": {"dependsOn": [{"name": "itself"}]},
    "odd-dependency": {"dependsOn": [{"name": "../..", "namespace": "?"}]},
    "odd-ready": {"dependsOn": [{"name": "healthy-0", "readyExpr": "dep.a.b.c + 1"}]},
    "odd-account": {"serviceAccountName": "a:b/../c d"},
}
GIT_REPOSITORIES: dict[str, JSON] = {
    "eternal": {"interval": LONG, "timeout": "0.1ms"},
    "hasty": {"interval": "0s"},
    "busy": {"interval": "5ms"},
    "odd-host": {"url": "http://[::1"},
    "odd-port": {"url": "https://example.invalid:99999999/x"},
    "option": {"url": "ssh://-oProxyCommand=touch/x"},
    "odd-branch": {"ref": {"branch": "--upload-pack=touch /tmp/x"}},
    "odd-semver": {"ref": {"semver": ">=(("}},
    "odd-name": {"ref": {"name": "refs/../../x"}},
    "odd-commit": {"ref": {"commit": "zz"}},
    "odd-ignore": {"ignore": "[" * 2000 + "\n!**/**/**/**\n\\"},
    "odd-secret": {"secretRef": {"name": "../../x"}},
}
ANNOTATIONS = {
    REQUESTED: "\u2603\n\u202e" + "x" * 100_000,
    "reconcile.fluxcd.io/forceAt": "not a time",
    "kustomize.toolkit.fluxcd.io/reconcile": "{{",
    "event.toolkit.fluxcd.io/x": "\n" * 1000,
}
STATUS: JSON = {
    "observedGeneration": 9223372036854775807,
    "lastAppliedRevision": "\u2603/@@@",
    "lastHandledReconcileAt": "x" * 10_000,
    "inventory": {
        "entries": [{"id": "", "v": ""}, {"id": "a_b", "v": "v1"}, {"id": "_" * 500, "v": "x/y/z"}]
    },
    "history": [
        {
            "digest": "",
            "firstReconciled": "0001-01-01T00:00:00Z",
            "lastReconciled": "9999-12-31T23:59:59Z",
            "lastReconciledDuration": "x",
            "lastReconciledStatus": "",
            "totalReconciliations": -1,
        }
    ],
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "X",
            "message": "",
            "lastTransitionTime": "9999-12-31T23:59:59Z",
        }
    ],
}
HEALTHY = 3


async def test_poisoned_objects_stop_nobody_else(
    api: Api, namespace: str, git_server: GitServer, engine: EngineFactory
) -> None:
    """Beside objects full of garbage healthy ones are installed and upgraded, after a restart too."""
    repo = GitRepo.create(git_server.root, namespace)
    repo.commit({f"{number}/map.yaml": config_map(f"map-{number}", {"v": "1"}) for number in range(HEALTHY)})
    poisoned = await poison(api, namespace, git_server.url(namespace))
    assert poisoned >= 38, "most of the garbage must get past the API server"
    runs = engine().start()
    await healthy(api, namespace, git_server.url(namespace))
    await settle(api, namespace, repo.commits[-1])
    commit = repo.commit({"0/map.yaml": config_map("map-0", {"v": "2"})})
    runs.restart()
    # The sources are looked at on a start, so nobody has to ask.
    await settle(api, namespace, commit)
    found = await api.get("v1", "ConfigMap", "map-0", namespace)
    assert found is not None
    assert found["data"] == {"v": "2"}
    status, text = runs.get("/readyz")
    assert status == 200, text
    assert runs.alive
    unforeseen = [line for line in runs.log() if line.get("msg") == "reconciler failed unforeseen"]
    assert unforeseen == []
    await judged(api, namespace)
    # Who asks to run all the time does not get it: a run a second, not a run after the other.
    times = collections.Counter(
        line.get("name") for line in runs.log() if "reconciled" in line.get("msg", "")
    )
    assert times["bad-hasty"] <= 10, times.most_common(5)
    assert times["bad-fraction"] <= 10, times.most_common(5)
    assert max(times.values()) <= 60, times.most_common(5)
    # What is poisoned can be taken away again.
    for version, kind, names in everything():
        for name in names:
            await api.delete(version, kind, name, namespace)
    for _ in range(300):
        left = [
            obj["metadata"]["name"]
            for version, kind, names in everything()
            for obj in await api.list(version, kind, namespace)
            if obj["metadata"]["name"] in names
        ]
        if not left:
            break
        await asyncio.sleep(0.1)
    assert left == []


def everything() -> list[tuple[str, str, list[str]]]:
    """Give versions, kinds and names of all that is poisoned."""
    names = [f"bad-{name}" for name in KUSTOMIZATIONS]
    return [
        (KUSTOMIZE, "Kustomization", [*names, "bad-notes", "bad-status"]),
        (SOURCE, "GitRepository", [f"bad-{name}" for name in GIT_REPOSITORIES]),
    ]


async def poison(api: Api, namespace: str, url: str) -> int:
    """Make all that is poisoned; give how much of it the API server took."""
    wanted: list[JSON] = [git_repository("app", namespace, url, interval="2s")]
    for name, spec in KUSTOMIZATIONS.items():
        wanted.append(
            kustomization(f"bad-{name}", namespace, "app", **{"path": "./0", "prune": False, **spec})
        )
    wanted += [
        git_repository(f"bad-{name}", namespace, **{"url": url, **spec})
        for name, spec in GIT_REPOSITORIES.items()
    ]
    notes = kustomization("bad-notes", namespace, "app", path="./0", prune=False)
    notes["metadata"]["annotations"] = ANNOTATIONS
    wanted.append(notes)
    wanted.append(kustomization("bad-status", namespace, "app", path="./none"))
    taken = sum([await _taken(api, obj) for obj in wanted[1:]], start=await _taken(api, wanted[0]))
    path = await api.path(KUSTOMIZE, "Kustomization", namespace, "bad-status")
    await api.request(
        "PATCH", f"{path}/status", body={"status": STATUS}, content_type="application/merge-patch+json"
    )
    return taken


async def _taken(api: Api, obj: JSON) -> bool:
    try:
        await api.apply(obj, manager="test")
    except ApiFailure as failure:
        if failure.status not in (400, 422):
            raise
        print(f"refused: {obj['metadata']['name']}: {str(failure)[-200:]}")  # noqa: T201 - shown with -rP
        return False
    return True


async def healthy(api: Api, namespace: str, url: str) -> None:
    """Make the objects that must work."""
    await api.apply(git_repository("healthy", namespace, url, interval="5s"), manager="test")
    for number in range(HEALTHY):
        wanted = kustomization(
            f"healthy-{number}", namespace, "healthy", path=f"./{number}", targetNamespace=namespace
        )
        await api.apply(wanted, manager="test")


async def settle(api: Api, namespace: str, commit: str) -> None:
    """Wait until the healthy objects are at a commit."""
    for number in range(HEALTHY):
        await wait_settled(api, "Kustomization", f"healthy-{number}", namespace, commit=commit, patience=90)


async def judged(api: Api, namespace: str) -> None:
    """See that what is wrong in itself says so in its conditions."""
    wrong: dict[str, Any] = {}
    for obj in await api.list(KUSTOMIZE, "Kustomization", namespace):
        name = obj["metadata"]["name"]
        if name in ("bad-path-out", "bad-odd-patch", "bad-odd-expression", "bad-no-source"):
            ready = condition(obj)
            if ready.get("status") != "False" or not ready.get("message"):
                wrong[name] = obj.get("status")
    assert not wrong, json.dumps(wrong)
