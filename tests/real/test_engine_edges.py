"""Edges of the engine that a recording does not show.

Several versions of a kind, identities that other engines wrote, changes that come at the
wrong moment, rights that come later, files that are lost.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gitwright.api import meta
from gitwright.artifact.store import Store
from gitwright.controllers.crew import KIND
from gitwright.controllers.desk import Clocks, Desk
from gitwright.core.objects import GroupKind
from gitwright.kube import config
from gitwright.kube.client import Client
from gitwright.observe import logging
from gitwright.observe.redact import Redactor
from tests.real.conftest import AnyCluster, EngineFactory, engines
from tests.real.engine import Engine
from tests.real.scene import VERSIONS, Scene, condition, config_map, inventory, watching
from tests.realcluster.api import JSON, Api, ApiFailure
from tests.servers.git import GitServer

FLAGS = {
    "time-limit-floor": "5s",
    "requeue-dependency": "2s",
    "min-retry-delay": "200ms",
    "drift-backoff": "2s",
}
GROUP = "edges.example.com"
OWNER = "kustomize.toolkit.fluxcd.io"


@pytest.fixture(scope="module")
def running(cluster: AnyCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for the tests of this module that do not stop it."""
    with engines(cluster, tmp_path_factory.mktemp("edges"), os.urandom(3).hex()) as make:
        yield make(flags=FLAGS).start()


@pytest.fixture
def scene(api: Api, namespace: str, git_server: GitServer, running: Engine) -> Scene:
    return Scene(api, namespace, git_server)


@pytest.fixture
async def client(cluster: AnyCluster) -> AsyncIterator[Client]:
    async with await Client.open(config.load(str(cluster.kubeconfig()), None, {})) as opened:
        yield opened


@pytest.fixture
def desk(client: Client, tmp_path: Path) -> Desk:
    """A desk without informers: it knows nothing but what it is given."""
    return Desk(
        client,
        store=Store(tmp_path, base_url="http://127.0.0.1", key=b"k" * 16, clock=lambda: 0.0),
        recorders={},
        again=lambda gvk, namespace, name, after: None,
        clocks=Clocks(lambda: 0.0, lambda: datetime.now(UTC), lambda seconds: seconds),
        redactor=Redactor(),
        log=logging.get("test"),
    )


def scaler(version: str, name: str, **spec: object) -> str:
    """Give a HorizontalPodAutoscaler of a target that does not exist."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"}
    body = {"scaleTargetRef": target, "maxReplicas": 3, **spec}
    metadata = {"name": name}
    return json.dumps(
        {
            "apiVersion": f"autoscaling/{version}",
            "kind": "HorizontalPodAutoscaler",
            "metadata": metadata,
            "spec": body,
        }
    )


def metric(name: str, value: int) -> JSON:
    return {
        "type": "Resource",
        "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": value}},
    }


def deployment(name: str) -> str:
    """Give a Deployment that never gets ready, since no node runs its pod."""
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "c"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}
    return json.dumps(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    )


async def told(scene: Scene, name: str, text: str) -> list[str]:
    """Give the messages of Events about a Kustomization that contain a text."""
    return [e["message"] for e in await scene.events("Kustomization", name) if text in e["message"]]


# -- versions and identities -----------------------------------------------------------------


async def test_a_kind_used_in_two_versions_is_no_drift(scene: Scene) -> None:
    """Two Kustomizations that use one kind in different versions are repaired for no change of its status."""
    rich = scaler("v2", "rich", metrics=[metric("cpu", 50), metric("memory", 60)])
    scene.commit({"app/h.yaml": rich, "old/h.yaml": scaler("v1", "poor", targetCPUUtilizationPercentage=70)})
    await scene.source()
    await scene.kustomization("app")
    await scene.kustomization("old", path="./old")
    for name in ("app", "old"):
        await scene.ready("Kustomization", name)
    version = VERSIONS["HorizontalPodAutoscaler"]
    for count in range(3):
        for name in ("rich", "poor"):
            note = {"metadata": {"annotations": {"edges/count": str(count)}}}
            await scene.api.patch(
                version, "HorizontalPodAutoscaler", name, scene.namespace, note, manager="other"
            )
        await asyncio.sleep(0.5)
    # What is drift in either version is still seen.
    change = {"spec": {"maxReplicas": 9}}
    for name in ("rich", "poor"):
        await scene.api.patch(
            version, "HorizontalPodAutoscaler", name, scene.namespace, change, manager="other"
        )
        await scene.until(
            "HorizontalPodAutoscaler", name, lambda obj: (obj or {})["spec"]["maxReplicas"] == 3, "repaired"
        )
    for name in ("app", "old"):
        repairs = [e for e in await scene.events("Kustomization", name) if " configured" in e["message"]]
        assert sum(e["count"] for e in repairs) <= 1


async def test_a_cluster_scoped_object_survives_an_identity_with_a_namespace(scene: Scene) -> None:
    """An inventory of Flux names a custom cluster-scoped object with a namespace; it is not pruned for that.

    Its definition comes with it and says its scope, so that it is waited for at the first pass.
    """
    plural = f"marks{os.urandom(3).hex()}"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {"plural": plural, "kind": plural.title(), "singular": plural},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
            ],
        },
    }
    mark = {"apiVersion": f"{GROUP}/v1", "kind": plural.title(), "metadata": {"name": "m"}, "spec": {"k": 1}}
    scene.commit({"app/crd.yaml": json.dumps(crd), "app/mark.yaml": json.dumps(mark)})
    await scene.source()
    await scene.kustomization(wait=True)
    ready = await scene.ready("Kustomization", "app", patience=15)
    assert f"_m_{GROUP}_{plural.title()}" in inventory(ready)
    before = await scene.api.get(f"{GROUP}/v1", plural.title(), "m", "")
    assert before is not None
    entries = ready["status"]["inventory"]["entries"]
    for entry in entries:
        if entry["id"].startswith(f"_m_{GROUP}"):
            entry["id"] = scene.namespace + entry["id"]
    status = {"status": {"inventory": {"entries": entries}}}
    await scene.api.patch(
        VERSIONS["Kustomization"], "Kustomization", "app", scene.namespace, status, subresource="status"
    )
    revision = await scene.push({"app/more.yaml": config_map("more", k="v")})
    ready = await scene.ready("Kustomization", "app", revision)
    assert f"_m_{GROUP}_{plural.title()}" in inventory(ready)
    after = await scene.api.get(f"{GROUP}/v1", plural.title(), "m", "")
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "deletionTimestamp" not in after["metadata"]
    await scene.delete("Kustomization", "app")
    await scene.gone("Kustomization", "app")


async def test_what_an_inventory_names_in_an_unserved_version_is_pruned(scene: Scene) -> None:
    """An object whose version in the inventory is served no more is found in another, and not forgotten."""
    scene.commit({"app/h.yaml": scaler("v2", "h"), "app/a.yaml": config_map("a", k="v")})
    await scene.source()
    await scene.kustomization()
    ready = await scene.ready("Kustomization", "app")
    entries = [
        {**entry, "v": "v2beta2"} if "HorizontalPodAutoscaler" in entry["id"] else entry
        for entry in ready["status"]["inventory"]["entries"]
    ]
    status = {"status": {"inventory": {"entries": entries}}}
    await scene.api.patch(
        VERSIONS["Kustomization"], "Kustomization", "app", scene.namespace, status, subresource="status"
    )
    revision = await scene.push({"app/h.yaml": None})
    await scene.ready("Kustomization", "app", revision)
    await scene.gone("HorizontalPodAutoscaler", "h", patience=5)


async def test_a_version_that_is_served_is_found_for_a_kind(client: Client) -> None:
    """The mapper names a served version of a kind, and none for a kind that nobody serves."""
    found = await client.mapper.served(GroupKind("autoscaling", "HorizontalPodAutoscaler"))
    assert found is not None
    assert found.version in ("v1", "v2")
    assert await client.mapper.served(GroupKind("", "ConfigMap")) is not None
    assert await client.mapper.served(GroupKind("nobody.example.com", "Thing")) is None
    assert await client.mapper.served(GroupKind("autoscaling", "Thing")) is None


async def test_an_object_that_opts_out_while_it_is_pruned_stays(scene: Scene) -> None:
    """A prune is bound to what was looked at: labels that change hands at the same moment win."""
    names = [f"c{number:02d}" for number in range(40)]
    scene.commit({f"app/{name}.yaml": config_map(name, k="v") for name in [*names, "keep"]})
    await scene.source()
    await scene.kustomization()
    await scene.ready("Kustomization", "app")
    opted: list[str] = []

    async def opt_out() -> None:
        mark = {"metadata": {"annotations": {f"{OWNER}/prune": "disabled"}}}
        for name in names:
            try:
                await scene.api.patch("v1", "ConfigMap", name, scene.namespace, mark, manager="other")
            except ApiFailure:
                return
            opted.append(name)

    work = asyncio.create_task(opt_out())
    revision = await scene.push(dict.fromkeys((f"app/{name}.yaml" for name in names), None))
    await scene.ready("Kustomization", "app", revision)
    await work
    left = {item["metadata"]["name"] for item in await scene.api.list("v1", "ConfigMap", scene.namespace)}
    # An opt-out that the server took before the deletion holds; none comes after one.
    assert set(opted) <= left


# -- changes at the wrong moment -------------------------------------------------------------


async def test_a_finalizer_is_set_and_taken_while_others_write(scene: Scene, desk: Desk) -> None:
    """A conflict on finalizers is tried again on what is there, and keeps what others put there."""
    await scene.kustomization(suspend=True, source="none")
    stale = await scene.until(
        "Kustomization", "app", lambda obj: bool((obj or {})["metadata"].get("finalizers")), "finalizer"
    )
    stale = {**stale, "metadata": {**stale["metadata"], "finalizers": []}}
    other = {"metadata": {"finalizers": [meta.FINALIZER, "example.com/mine"], "labels": {"a": "b"}}}
    await scene.api.patch(VERSIONS["Kustomization"], "Kustomization", "app", scene.namespace, other)
    made = await desk.add_finalizer(KIND, stale, meta.STATUS_MANAGER)
    assert sorted(made["metadata"]["finalizers"]) == ["example.com/mine", meta.FINALIZER]
    await desk.remove_finalizer(KIND, stale, meta.STATUS_MANAGER)
    left = await scene.get("Kustomization", "app")
    assert left is not None
    assert left["metadata"]["finalizers"] == ["example.com/mine"]
    bare: JSON = {"metadata": {"finalizers": []}}
    await scene.api.patch(VERSIONS["Kustomization"], "Kustomization", "app", scene.namespace, bare)


async def test_a_status_is_written_for_the_generation_that_was_read(scene: Scene, desk: Desk) -> None:
    """What changed during a run is not called done by it: neither generation nor request are the run's."""
    await scene.kustomization(suspend=True, source="none")
    read = await scene.until(
        "Kustomization", "app", lambda obj: bool((obj or {})["metadata"].get("finalizers")), "finalizer"
    )
    await scene.kustomization(suspend=True, source="none", path="./other")
    await scene.nudge("Kustomization", "app")
    given = await desk.write_status(read, {"lastAttemptedRevision": "r"}, meta.STATUS_MANAGER)
    assert given["metadata"]["generation"] == read["metadata"]["generation"]
    assert given["spec"] == read["spec"]
    assert given["metadata"].get("annotations") == read["metadata"].get("annotations")
    assert given["status"]["lastAttemptedRevision"] == "r"
    assert int(given["metadata"]["resourceVersion"]) > int(read["metadata"]["resourceVersion"])


async def test_what_a_run_applied_is_told_also_when_newer_input_ends_it(scene: Scene) -> None:
    """A commit during the wait ends the run; what that run created is told all the same."""
    scene.commit({"app/d.yaml": deployment("d")})
    await scene.source()
    await scene.kustomization(wait=True, timeout="5m")
    await scene.has("Deployment", "d")
    await scene.until(
        "Kustomization",
        "app",
        lambda obj: "health" in condition(obj or {}, "Reconciling").get("message", ""),
        "waits",
    )
    await scene.push({"app/a.yaml": config_map("a", k="v")})
    await scene.has("ConfigMap", "a", k="v")
    line = f"Deployment/{scene.namespace}/d created"
    await scene.event("Kustomization", "app", "Progressing", line, level="Normal")


async def test_a_dependent_stays_ready_while_its_dependency_works(scene: Scene) -> None:
    """Only a ready dependency makes its dependents look again; one at work does not make them unready."""
    scene.commit({"app/a.yaml": config_map("a", k="v")}, "first")
    scene.commit({"app/b.yaml": config_map("b", k="v")}, "second")
    for name in ("first", "second"):
        await scene.source(name)
    await scene.kustomization("first", source="first", wait=True, timeout="5m")
    await scene.kustomization("second", source="second", dependsOn=[{"name": "first"}])
    ready = await scene.ready("Kustomization", "second")
    waited = await told(scene, "second", "Dependencies do not meet")
    await scene.push({"app/d.yaml": deployment("d")}, "first")
    await scene.until(
        "Kustomization", "first", lambda obj: condition(obj or {}, "Ready")["status"] == "Unknown", "works"
    )
    await asyncio.sleep(2)
    after = await scene.get("Kustomization", "second")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == ready["metadata"]["resourceVersion"]
    assert await told(scene, "second", "Dependencies do not meet") == waited


# -- rights that come later, and wars ---------------------------------------------------------


async def test_rights_for_a_health_check_may_come_later(scene: Scene) -> None:
    """An account that may not read what is checked fails the check, and passes it once it may."""
    scene.commit({"app/a.yaml": config_map("a", k="v")})
    await scene.apply("ServiceAccount", "tenant")
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}
    await scene.bind("tenant", rule)
    await scene.apply("Secret", "other", type="Opaque")
    check = {"apiVersion": "v1", "kind": "Secret", "name": "other", "namespace": scene.namespace}
    await scene.source()
    await scene.kustomization(serviceAccountName="tenant", healthChecks=[check])
    message = await scene.failed("Kustomization", "app", "HealthCheckFailed")
    assert "forbidden" in message
    await scene.bind("tenant", rule, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]})
    await scene.ready("Kustomization", "app")


async def test_a_deletion_is_tried_again_long_before_the_interval(scene: Scene) -> None:
    """A Kustomization whose objects cannot be deleted goes soon after they can, whatever its interval."""
    scene.commit({"app/a.yaml": config_map("a", k="v")})
    await scene.apply("ServiceAccount", "tenant")
    verbs = ["get", "create", "patch"]
    await scene.bind("tenant", {"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs})
    await scene.source()
    await scene.kustomization(serviceAccountName="tenant", retryInterval="1h", interval="1h")
    await scene.ready("Kustomization", "app")
    await scene.delete("Kustomization", "app")
    await scene.failed("Kustomization", "app", "PruneFailed")
    await scene.bind("tenant", {"apiGroups": [""], "resources": ["configmaps"], "verbs": [*verbs, "delete"]})
    await scene.gone("Kustomization", "app", patience=20)
    await scene.gone("ConfigMap", "a")


async def test_a_failing_run_wages_no_war(scene: Scene) -> None:
    """Also while a Kustomization fails otherwise, what is edited back is repaired ever more rarely."""
    scene.commit({"app/a.yaml": config_map("a", k="v"), "app/b.yaml": config_map("b", k="v")})
    await scene.apply("ServiceAccount", "tenant")
    verbs = ["get", "create", "patch"]
    await scene.bind("tenant", {"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs})
    await scene.source()
    await scene.kustomization(serviceAccountName="tenant", retryInterval="1h", interval="1h")
    await scene.ready("Kustomization", "app")
    # Its deletion is not allowed, so the Kustomization fails to prune from now on.
    await scene.push({"app/b.yaml": None})
    await scene.failed("Kustomization", "app", "PruneFailed")
    edits = 0
    edit = {"data": {"k": "mine"}}

    async def edit_back() -> None:
        nonlocal edits
        async with watching(scene.api, "ConfigMap", scene.namespace) as events:
            async for event in events:
                obj = event["object"]
                if obj["metadata"]["name"] == "a" and obj["data"]["k"] == "v":
                    edits += 1
                    await scene.api.patch("v1", "ConfigMap", "a", scene.namespace, edit, manager="stubborn")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(6):
            await edit_back()
    assert 1 <= edits <= 5


# -- files that are not here -----------------------------------------------------------------


async def test_a_suspended_source_whose_files_are_lost_is_told(
    scene: Scene, api: Api, engine: EngineFactory, git_server: GitServer, cluster: AnyCluster
) -> None:
    """Caches may be deleted at any time; where nobody will fetch again, the Kustomization says so."""
    scene.commit({"app/a.yaml": config_map("a", k="v")})
    await scene.source(suspend=False)
    await scene.kustomization()
    await scene.ready("Kustomization", "app")
    await scene.source(suspend=True)
    # An engine of its own, with an empty cache, over this namespace alone.
    flags = {**FLAGS, "watch-all-namespaces": "false", "leader-elect": "false"}
    with engine(flags=flags, namespace=scene.namespace).start():
        message = await scene.failed("Kustomization", "app", "ArtifactFailed")
    assert message.startswith("Source artifact not found, retrying in ")
    assert "suspended" in message
