"""A repository that installs Flux itself: all of it is applied but the controllers we stand in for.

It has a control plane of its own, because definitions that every other test needs are pruned here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import missing
from tests.real.conftest import define, engines
from tests.real.engine import Engine
from tests.real.scene import Scene, config_map, inventory
from tests.realcluster.api import JSON, Api
from tests.realcluster.build import BuildError, build
from tests.realcluster.cluster import RealCluster
from tests.servers.git import GitServer

FLUX = "flux-system"
FOLDER = "clusters/test/flux-system"
OWNER = "kustomize.toolkit.fluxcd.io"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Iterator[RealCluster]:
    """A control plane that may be left without definitions, with Flux's kinds in it."""
    try:
        binary = build(os.environ)
    except BuildError as error:
        missing(str(error), os.environ)
        raise
    with RealCluster(tmp_path_factory.mktemp("flux"), binary) as found:
        define(found, corpus / "crds")
        yield found


# -- the repository ------------------------------------------------------------------------


def components(corpus: Path) -> list[JSON]:
    """Read Flux's own installation as documents."""
    text = (corpus / "flux-install" / "gotk-components.yaml").read_text()
    return [document for document in yaml.safe_load_all(text) if document]


def as_yaml(documents: list[JSON]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False)


def names(documents: list[JSON], kind: str) -> list[str]:
    return sorted(item["metadata"]["name"] for item in documents if item["kind"] == kind)


@dataclass
class Bootstrapped:
    """A cluster as `flux bootstrap` leaves it, but with gitwright in Flux's place.

    Args:
        engine: runs in Flux's own namespace.
        documents: what gotk-components.yaml says at first.
        git: serves the repository.
    """

    engine: Engine
    documents: list[JSON]
    git: GitServer
    made: Scene | None = None

    def scene(self, api: Api) -> Scene:
        """Give the scene in Flux's namespace."""
        if self.made is None:
            self.made = Scene(api, FLUX, self.git)
        self.made.api = api
        return self.made


@pytest.fixture(scope="module")
def bootstrapped(
    cluster: RealCluster, corpus: Path, git_server: GitServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bootstrapped]:
    """Flux's layout in Git, its sync objects in the cluster, and an engine over them."""
    with engines(cluster, tmp_path_factory.mktemp("bootstrap"), "flux") as make:
        found = Bootstrapped(make(namespace=FLUX), components(corpus), git_server)

        async def prepare() -> None:
            async with cluster.api() as api:
                scene = found.scene(api)
                url = scene.url(FLUX)
                sync = [sync_source(url), sync_kustomization()]
                scene.commit(
                    {
                        f"{FOLDER}/gotk-components.yaml": as_yaml(found.documents),
                        f"{FOLDER}/gotk-sync.yaml": as_yaml(sync),
                        f"{FOLDER}/kustomization.yaml": "resources: [gotk-components.yaml, gotk-sync.yaml]\n",
                        "clusters/test/app.yaml": config_map("app", k="v").replace(
                            "{name: app}", f"{{name: app, namespace: {FLUX}}}"
                        ),
                    },
                    FLUX,
                )
                # As `flux bootstrap` does it: the namespace and the sync objects come first.
                await api.apply(found.documents[0], manager="flux")
                for obj in sync:
                    await api.apply(obj, manager="flux")

        asyncio.run(prepare())
        found.engine.start()
        yield found


def sync_source(url: str) -> JSON:
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": FLUX, "namespace": FLUX},
        "spec": {"interval": "1m0s", "ref": {"branch": "main"}, "url": url},
    }


def sync_kustomization() -> JSON:
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": FLUX, "namespace": FLUX},
        "spec": {
            "interval": "10m0s",
            "path": "./clusters/test",
            "prune": True,
            "sourceRef": {"kind": "GitRepository", "name": FLUX},
        },
    }


def controllers(documents: list[JSON]) -> set[str]:
    """Give the inventory ids of Flux's controllers."""
    return {f"{FLUX}_{name}_apps_Deployment" for name in names(documents, "Deployment")}


async def present(scene: Scene, documents: list[JSON]) -> dict[str, JSON]:
    """Put Flux's controllers into the cluster as Flux itself would have; gives them by name."""
    made = {}
    for document in documents:
        if document["kind"] == "Deployment":
            labels = {f"{OWNER}/name": FLUX, f"{OWNER}/namespace": FLUX}
            metadata = document["metadata"]
            body = {**document, "metadata": {**metadata, "labels": {**metadata["labels"], **labels}}}
            obj = await scene.api.apply(body, manager="kustomize-controller")
            made[obj["metadata"]["name"]] = obj
    return made


async def test_a_bootstrapped_repository_is_applied_without_fluxs_controllers(
    api: Api, bootstrapped: Bootstrapped
) -> None:
    """All of Flux is applied but its Deployments, which are shown as skipped and kept in the inventory."""
    scene = bootstrapped.scene(api)
    documents = bootstrapped.documents
    own = await scene.ready("Kustomization", FLUX, patience=60)
    assert await api.list("apps/v1", "Deployment", FLUX) == []
    for document in documents:
        if document["kind"] == "Deployment":
            continue
        meta = document["metadata"]
        live = await api.get(
            document["apiVersion"], document["kind"], meta["name"], meta.get("namespace", "")
        )
        assert live is not None, meta
        assert live["metadata"]["labels"][f"{OWNER}/name"] == FLUX, meta
    assert len(names(documents, "Deployment")) == 4
    assert controllers(documents) <= inventory(own)
    assert len(inventory(own)) == len(documents) + 3
    await scene.has("ConfigMap", "app", k="v")
    lines = {
        line for event in await scene.events("Kustomization", FLUX) for line in event["message"].splitlines()
    }
    for name in names(documents, "Deployment"):
        assert f"Deployment/{FLUX}/{name} skipped" in lines


async def test_fluxs_controllers_that_are_there_are_left_alone(api: Api, bootstrapped: Bootstrapped) -> None:
    """Neither a new version in Git nor an edit by hand makes us write to a controller of Flux."""
    scene = bootstrapped.scene(api)
    await scene.ready("Kustomization", FLUX, patience=60)
    before = await present(scene, bootstrapped.documents)
    stopped = await api.patch(
        "apps/v1", "Deployment", "kustomize-controller", FLUX, {"spec": {"replicas": 0}}, manager="kubectl"
    )
    newer = as_yaml(bootstrapped.documents).replace("replicas: 1", "replicas: 2")
    newer = newer.replace("imagePullPolicy: IfNotPresent", "imagePullPolicy: Always")
    revision = await scene.push({f"{FOLDER}/gotk-components.yaml": newer}, FLUX)
    own = await scene.ready("Kustomization", FLUX, revision, patience=60)
    assert controllers(bootstrapped.documents) <= inventory(own)
    for name, old in before.items():
        live = await scene.get("Deployment", name)
        assert live is not None
        expected = stopped if name == "kustomize-controller" else old
        assert live["spec"] == expected["spec"]
        assert live["metadata"]["uid"] == old["metadata"]["uid"]
    await scene.push({f"{FOLDER}/gotk-components.yaml": as_yaml(bootstrapped.documents)}, FLUX)


async def test_what_flux_needs_is_not_pruned(api: Api, bootstrapped: Bootstrapped, corpus: Path) -> None:
    """Out of Git, Flux's controllers stay; a definition of its kinds stays until its last object is gone."""
    scene = bootstrapped.scene(api)
    await scene.ready("Kustomization", FLUX, patience=60)
    await present(scene, bootstrapped.documents)
    used, unused = "receivers.notification.toolkit.fluxcd.io", "buckets.source.toolkit.fluxcd.io"
    extension = "artifactgenerators.source.extensions.fluxcd.io"
    extra = (corpus / "crds" / "source.extensions.fluxcd.io_artifactgenerators.yaml").read_text()
    base = {f"{FOLDER}/gotk-components.yaml": as_yaml(bootstrapped.documents)}
    revision = await scene.push({**base, "clusters/test/extension.yaml": extra}, FLUX)
    own = await scene.ready("Kustomization", FLUX, revision, patience=60)
    ids = {
        name: f"_{name}_apiextensions.k8s.io_CustomResourceDefinition" for name in (used, unused, extension)
    }
    assert set(ids.values()) <= inventory(own)
    receiver: JSON = {
        "apiVersion": "notification.toolkit.fluxcd.io/v1",
        "kind": "Receiver",
        "metadata": {"name": "kept", "namespace": FLUX},
        "spec": {
            "type": "generic",
            "secretRef": {"name": "none"},
            "resources": [{"kind": "Bucket", "name": "b"}],
        },
    }
    generator: JSON = {
        "apiVersion": "source.extensions.fluxcd.io/v1beta1",
        "kind": "ArtifactGenerator",
        "metadata": {"name": "kept", "namespace": FLUX},
        "spec": {
            "sources": [{"alias": "a", "kind": "Bucket", "name": "b"}],
            "artifacts": [{"name": "a", "copy": [{"from": "@a/**", "to": "@artifact/"}]}],
        },
    }
    for obj in (receiver, generator):
        await api.apply(obj, manager="user")
    fewer = [
        item
        for item in bootstrapped.documents
        if item["kind"] != "Deployment" and item["metadata"]["name"] not in (used, unused)
    ]
    removal = {f"{FOLDER}/gotk-components.yaml": as_yaml(fewer), "clusters/test/extension.yaml": None}
    revision = await scene.push(removal, FLUX)
    own = await scene.ready("Kustomization", FLUX, revision, patience=60)
    await scene.gone("CustomResourceDefinition", unused, patience=60)
    for obj in (receiver, generator):
        assert await api.get(obj["apiVersion"], obj["kind"], "kept", FLUX) is not None
    assert len(await api.list("apps/v1", "Deployment", FLUX)) == 4
    assert {ids[used], ids[extension]} | controllers(bootstrapped.documents) <= inventory(own)
    assert ids[unused] not in inventory(own)
    # What was kept is not forgotten: without objects it goes, at the next look.
    for obj in (receiver, generator):
        await api.delete(obj["apiVersion"], obj["kind"], "kept", FLUX)
    await scene.nudge("Kustomization", FLUX)
    for name in (used, extension):
        await scene.gone("CustomResourceDefinition", name, patience=60)
    own = await scene.until(
        "Kustomization", FLUX, lambda obj: obj is not None and ids[used] not in inventory(obj), "forgotten"
    )
    assert len(await api.list("apps/v1", "Deployment", FLUX)) == 4
    assert controllers(bootstrapped.documents) <= inventory(own)
