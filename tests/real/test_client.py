"""The Kubernetes client and its informers against a real API server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import orjson
import pytest

from gitwright.core.errors import Denied
from gitwright.core.objects import GVK, JSON
from gitwright.kube import config, fields
from gitwright.kube.client import Client
from gitwright.kube.cluster import Cluster
from gitwright.kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NoKindMatch,
    NotFound,
)
from gitwright.kube.informer import Change, Informer
from tests.realcluster.cluster import RealCluster

CONFIG_MAP = GVK("", "v1", "ConfigMap")
DEPLOYMENT = GVK("apps", "v1", "Deployment")
NAMESPACE = GVK("", "v1", "Namespace")
CRD = GVK("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
MANAGER = "kustomize-controller"


@pytest.fixture
async def client(cluster: RealCluster) -> AsyncIterator[Client]:
    async with await Client.open(config.load(str(cluster.kubeconfig()), None, {})) as opened:
        yield opened


def config_map(name: str, namespace: str, labels: dict[str, str] | None = None, **data: str) -> JSON:
    metadata: JSON = {"name": name, "namespace": namespace}
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def deployment(name: str, namespace: str) -> JSON:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [
                        {
                            "name": "web",
                            "image": "web:1",
                            "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        }
                    ]
                },
            },
        },
    }


def crd(plural: str, kind: str) -> JSON:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.kube.example.com"},
        "spec": {
            "group": "kube.example.com",
            "names": {"plural": plural, "kind": kind, "singular": plural[:-1], "listKind": f"{kind}List"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": True,
                        }
                    },
                }
            ],
        },
    }


async def eventually(check: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if check():
                return
            await asyncio.sleep(0.02)


def rev(obj: JSON) -> str:
    return str((obj.get("data") or {}).get("rev"))


class Running:
    """An informer that runs, and what it told."""

    def __init__(self, informer: Informer[Any]) -> None:
        self.informer = informer
        self.told: list[tuple[str, str]] = []
        informer.subscribe(self.note)
        self.task = asyncio.create_task(informer.run())

    def note(self, change: Change[Any]) -> None:
        self.told.append((change.kind, change.name))

    async def __aenter__(self) -> Running:
        await self.informer.synced(30)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_an_object_lives_through_every_verb(client: Client, namespace: str) -> None:
    """Create, get, apply, patch, replace and delete do to a real object what they say."""
    made = await client.create(config_map("a", namespace, rev="1"), field_manager="test")
    with pytest.raises(AlreadyExists):
        await client.create(config_map("a", namespace, rev="1"), field_manager="test")
    assert (await client.get(CONFIG_MAP, "a", namespace))["metadata"]["uid"] == made["metadata"]["uid"]

    dry = await client.apply(
        config_map("a", namespace, rev="2"),
        CONFIG_MAP,
        "a",
        namespace,
        field_manager=MANAGER,
        dry_run=True,
    )
    assert rev(dry) == "2"
    assert rev(await client.get(CONFIG_MAP, "a", namespace)) == "1"
    body = orjson.dumps(config_map("a", namespace, rev="2"))
    with pytest.raises(Conflict) as refused:
        await client.apply(body, CONFIG_MAP, "a", namespace, field_manager=MANAGER, force=False)
    assert [cause.field for cause in refused.value.causes] == [".data.rev"]
    applied = await client.apply(body, CONFIG_MAP, "a", namespace, field_manager=MANAGER)
    assert rev(applied) == "2"
    assert fields.entry(applied, MANAGER) is not None

    merged = await client.patch(
        CONFIG_MAP, "a", namespace, {"data": {"rev": "3"}}, kind="merge", field_manager="test"
    )
    operations = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": merged["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/data/rev", "value": "4"},
    ]
    patched = await client.patch(CONFIG_MAP, "a", namespace, operations, kind="json", field_manager="test")
    assert rev(patched) == "4"
    with pytest.raises(Conflict):
        await client.replace({**merged, "data": {"rev": "5"}}, field_manager="test")
    replaced = await client.replace({**patched, "data": {"rev": "5"}}, field_manager="test")
    assert rev(replaced) == "5"

    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAP, "a", namespace, uid=str(uuid.uuid4()))
    await client.delete(CONFIG_MAP, "a", namespace, uid=made["metadata"]["uid"], dry_run=True)
    await client.delete(CONFIG_MAP, "a", namespace, uid=made["metadata"]["uid"])
    with pytest.raises(NotFound, match=r'^configmaps "a" not found$'):
        await client.get(CONFIG_MAP, "a", namespace)
    assert str((await client.version())["gitVersion"]).startswith("v1.")


async def test_lists_come_whole_through_pages_and_selectors(client: Client, namespace: str) -> None:
    """A list of several pages is complete, selected by labels and fields, and its items name their kind."""
    for number in range(7):
        labels = {"odd": str(number % 2)}
        await client.create(config_map(f"m{number}", namespace, labels, rev="1"), field_manager="test")
    odd = await client.list(CONFIG_MAP, namespace, labels="odd=1", limit=2)
    assert [item["metadata"]["name"] for item in odd.items] == ["m1", "m3", "m5"]
    assert {(item["apiVersion"], item["kind"]) for item in odd.items} == {("v1", "ConfigMap")}
    one = await client.list(CONFIG_MAP, namespace, fields="metadata.name=m4")
    assert [item["metadata"]["name"] for item in one.items] == ["m4"]
    pages = [page async for page in client.pages(CONFIG_MAP, namespace, labels="odd", limit=3)]
    assert [len(page.items) for page in pages] == [3, 3, 1]


async def test_a_watch_goes_on_where_a_list_ended(client: Client, namespace: str) -> None:
    """A watch from the list's version shows each later change once and in order."""
    start = (await client.list(CONFIG_MAP, namespace)).resource_version
    await client.create(config_map("w", namespace, rev="1"), field_manager="test")
    await client.patch(CONFIG_MAP, "w", namespace, {"data": {"rev": "2"}}, kind="merge", field_manager="t")
    await client.delete(CONFIG_MAP, "w", namespace)
    seen: list[tuple[str, str]] = []
    async with (
        asyncio.timeout(20),
        aclosing(client.watch(CONFIG_MAP, namespace, resource_version=start)) as events,
    ):
        async for event in events:
            if event.type != "BOOKMARK" and event.object["metadata"]["name"] == "w":
                seen.append((event.type, rev(event.object)))
            if len(seen) == 3:
                break
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


async def test_refusals_are_worded_by_the_server(client: Client, namespace: str) -> None:
    """An invalid object is refused with the server's message, its fields as causes, and as immutable."""
    bad = deployment("web", namespace)
    bad["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    with pytest.raises(Invalid) as refused:
        await client.apply(bad, DEPLOYMENT, "web", namespace, field_manager=MANAGER)
    assert refused.value.message.startswith('Deployment.apps "web" is invalid: spec.template.metadata.labels')
    assert [cause.field for cause in refused.value.causes] == ["spec.template.metadata.labels"]
    await client.apply(deployment("web", namespace), DEPLOYMENT, "web", namespace, field_manager=MANAGER)
    moved = deployment("web", namespace)
    moved["spec"]["selector"]["matchLabels"] = moved["spec"]["template"]["metadata"]["labels"] = {"app": "b"}
    with pytest.raises(Invalid) as refused:
        await client.apply(moved, DEPLOYMENT, "web", namespace, field_manager=MANAGER, dry_run=True)
    assert refused.value.is_immutable
    assert "field is immutable" in refused.value.message
    unknown = deployment("web", namespace)
    unknown["spec"]["replcas"] = 1
    with pytest.raises(Exception, match=r"\.spec\.replcas: field not declared in schema"):
        await client.apply(
            unknown, DEPLOYMENT, "web", namespace, field_manager=MANAGER, field_validation="Strict"
        )


async def test_impersonation_acts_with_the_other_identitys_rights(client: Client, namespace: str) -> None:
    """An impersonating client has the tenant's rights alone, and blanks never mean ourselves (S26)."""
    tenant = client.impersonate(f"system:serviceaccount:{namespace}:tenant")
    with pytest.raises(Forbidden) as refused:
        await tenant.get(CONFIG_MAP, "kube-root-ca.crt", namespace)
    assert isinstance(refused.value, Denied)
    assert f'User "system:serviceaccount:{namespace}:tenant" cannot get' in refused.value.message
    admin = client.impersonate("somebody", ("system:masters",))
    assert (await admin.get(NAMESPACE, namespace))["metadata"]["name"] == namespace
    for user, groups in (("", ()), (" ", ()), ("somebody", ("",)), ("some\nbody", ())):
        with pytest.raises(Denied):
            client.impersonate(user, groups)


async def test_new_kinds_are_known_at_once_and_gone_ones_forgotten(client: Client, namespace: str) -> None:
    """A CRD made after discovery is found by the next question, and an informer of it follows it."""
    plural = f"w{uuid.uuid4().hex[:8]}s"
    kind = plural.capitalize()
    gvk = GVK("kube.example.com", "v1", kind)
    widget = {
        "apiVersion": "kube.example.com/v1",
        "kind": kind,
        "metadata": {"name": "one", "namespace": namespace},
    }
    with pytest.raises(NoKindMatch, match=f'^no matches for kind "{kind}" in version "kube.example.com/v1"$'):
        await client.get(gvk, "one", namespace)
    name = f"{plural}.kube.example.com"
    running = Running(Informer(client, gvk, project=lambda obj: str(obj["metadata"]["uid"])))
    try:
        await running.informer.synced(5)
        assert running.informer.items() == []
        for _ in range(2):
            running.told.clear()
            await client.apply(crd(plural, kind), CRD, name, field_manager=MANAGER)
            await _established(client, name)
            await client.apply(widget, gvk, "one", namespace, field_manager=MANAGER)
            await eventually(lambda: running.told == [("added", "one")])
            await client.delete(CRD, name)
            await eventually(lambda: running.told == [("added", "one"), ("deleted", "one")])
            await _gone(client, name)
            with pytest.raises(NotFound):
                await client.get(gvk, "one", namespace)
    finally:
        await running.__aexit__()


async def _established(client: Client, name: str) -> None:
    """Wait as Flux does: until the CRD says it is established, and no longer."""
    async with asyncio.timeout(20):
        while True:
            status = (await client.get(CRD, name)).get("status") or {}
            conditions = {item["type"]: item["status"] for item in status.get("conditions") or ()}
            if conditions.get("Established") == "True":
                return
            await asyncio.sleep(0.02)


async def _gone(client: Client, name: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await client.get(CRD, name)
            except NotFound:
                return
            await asyncio.sleep(0.02)


async def test_an_informer_survives_a_restart_of_the_server(
    client: Client, own_cluster: RealCluster, namespace: str
) -> None:
    """After the API server was away an informer goes on by itself, telling what happened since."""
    await client.create(config_map("before", namespace, rev="1"), field_manager="test")
    async with Running(Informer(client, CONFIG_MAP, project=rev, namespace=namespace)) as running:
        assert running.informer.get(namespace, "before") == "1"
        own_cluster.restart_apiserver()
        await client.apply(
            config_map("after", namespace, rev="1"), CONFIG_MAP, "after", namespace, field_manager="test"
        )
        await eventually(lambda: running.informer.get(namespace, "after") == "1", 30)
        assert running.told.count(("added", "before")) == 1
        assert ("deleted", "before") not in running.told


async def test_an_informer_lists_anew_when_its_version_is_compacted(
    client: Client, own_cluster: RealCluster, namespace: str
) -> None:
    """A version that etcd compacted away gives Gone, and an informer then tells the differences only."""
    for name in ("kept", "changed", "removed"):
        await client.create(config_map(name, namespace, rev="1"), field_manager="test")
    informer = Informer(client, CONFIG_MAP, project=rev, namespace=namespace)
    running = Running(informer)
    await running.informer.synced(30)
    running.task.cancel()
    await asyncio.gather(running.task, return_exceptions=True)
    old = (await client.list(CONFIG_MAP, namespace)).resource_version
    await client.patch(
        CONFIG_MAP, "changed", namespace, {"data": {"rev": "2"}}, kind="merge", field_manager="test"
    )
    await client.delete(CONFIG_MAP, "removed", namespace)
    await client.create(config_map("new", namespace, rev="1"), field_manager="test")
    own_cluster.compact_etcd()
    # The server's own memory of the past ends only with the process.
    own_cluster.restart_apiserver()
    async with aclosing(client.watch(CONFIG_MAP, namespace, resource_version=old)) as events:
        with pytest.raises(Gone):
            await anext(events)
    running.told.clear()
    running.task = asyncio.create_task(informer.run())
    async with running:
        await eventually(lambda: len(running.told) == 3)
        assert sorted(running.told) == [("added", "new"), ("deleted", "removed"), ("modified", "changed")]


async def test_owned_fields_of_real_objects_are_cut_out_and_taken_over(
    client: Client, namespace: str
) -> None:
    """What a manager owns equals what it applied, and a take-over makes the next apply remove the rest."""
    wanted = deployment("web", namespace)
    wanted["spec"]["template"]["spec"]["containers"][0]["args"] = ["a", "b"]
    live = await client.apply(wanted, DEPLOYMENT, "web", namespace, field_manager=MANAGER)
    entry = fields.entry(live, MANAGER)
    assert entry is not None
    owned = fields.select(live, entry["fieldsV1"])
    assert owned == {"spec": wanted["spec"]}
    assert fields.select(wanted, entry["fieldsV1"]) == owned
    item = '/f:spec/f:template/f:spec/f:containers/k:{"name":"web"}'
    assert {item, f"{item}/f:image", "/f:spec/f:replicas"} <= fields.paths(entry["fieldsV1"])

    edit = {"metadata": {"annotations": {"by": "hand"}}, "spec": {"replicas": 1, "paused": True}}
    edited = await client.patch(
        DEPLOYMENT, "web", namespace, edit, kind="strategic", field_manager="kubectl-edit"
    )
    entries = edited["metadata"]["managedFields"]
    assert fields.foreign(entries, MANAGER)
    merged = fields.take_over(entries, MANAGER)
    assert merged is not None
    operation = {"op": "replace", "path": "/metadata/managedFields", "value": merged}
    taken = await client.patch(DEPLOYMENT, "web", namespace, [operation], kind="json", field_manager=MANAGER)
    assert not fields.foreign(taken["metadata"]["managedFields"], MANAGER)
    again = await client.apply(wanted, DEPLOYMENT, "web", namespace, field_manager=MANAGER)
    assert again["spec"]["replicas"] == 0
    assert "paused" not in again["spec"]
    assert "by" not in again["metadata"].get("annotations", {})


async def test_a_cluster_shares_informers_and_ends_them(cluster: RealCluster, namespace: str) -> None:
    """Users of one selection share one informer, which ends with the last of them or with the cluster."""
    opened = await Client.open(config.load(str(cluster.kubeconfig()), None, {}))
    async with Cluster("", opened) as value:
        first = await value.informer(CONFIG_MAP, rev, namespace=namespace, view="rev")
        second = await value.informer(CONFIG_MAP, rev, namespace=namespace, view="rev")
        other = await value.informer(CONFIG_MAP, rev, namespace=namespace, view="other")
        assert first is second
        assert first is not other
        await first.synced(20)
        await value.release(first)
        await opened.create(config_map("x", namespace, rev="1"), field_manager="test")
        await eventually(lambda: second.get(namespace, "x") == "1")
        await value.release(second)
        third = await value.informer(CONFIG_MAP, rev, namespace=namespace, view="rev")
        assert third is not first
        await third.synced(20)
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "informer ConfigMap" in names
    assert "informer ConfigMap" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_listing_without_rights_is_told_and_not_waited_for(
    cluster: RealCluster, namespace: str
) -> None:
    """An informer that may not list says so at once and keeps trying."""
    user = cluster.fresh_user()
    async with await Client.open(config.load(str(cluster.kubeconfig(user)), None, {})) as tenant:
        running = Running(Informer(tenant, CONFIG_MAP, project=rev, namespace=namespace))
        with pytest.raises(TimeoutError, match="cannot list resource"):
            await running.informer.synced(20)
        assert "cannot list resource" in running.informer.last_error
        assert not running.task.done()
        await running.__aexit__()
