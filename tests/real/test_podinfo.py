"""podinfo from a local Git server: applied, edited by hand, renamed, broken, mended and deleted."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import AnyCluster, engines
from tests.real.engine import Engine
from tests.real.scene import Bystander, Scene, config_map, contents, inventory, settles, watching
from tests.real.scrub import scrub, wait_gone
from tests.realcluster.api import JSON, Api
from tests.servers.git import Content, GitServer

# Far below the interval of ten minutes and Flux's own shortest pass; two slow cores included.
AT_ONCE = 3.0
OBJECTS = (("Deployment", "podinfo"), ("Service", "podinfo"), ("HorizontalPodAutoscaler", "podinfo"))


@pytest.fixture(scope="module")
def running(cluster: AnyCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for all tests of this module."""
    with engines(cluster, tmp_path_factory.mktemp("podinfo"), os.urandom(3).hex()) as make:
        yield make().start()


@pytest.fixture
def scene(api: Api, namespace: str, git_server: GitServer, running: Engine) -> Scene:
    return Scene(api, namespace, git_server)


@pytest.fixture
def files(corpus: Path) -> dict[str, str]:
    """The corpus as it is committed: path in the repository -> text."""
    folder = corpus / "podinfo"
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted((folder / "kustomize").iterdir())
        if path.is_file()
    }


async def install(scene: Scene, files: Mapping[str, Content]) -> str:
    """Have podinfo applied, and wait until it is."""
    revision = scene.commit(files)
    await scene.source()
    await scene.kustomization("podinfo", path="./kustomize")
    await scene.ready("Kustomization", "podinfo", revision)
    return revision


@dataclass
class Repair:
    """An edit and its repair, as a watch saw them.

    Args:
        seconds: from the moment the edit was seen to the moment its repair was.
        after: the object then.
    """

    seconds: float
    after: JSON


async def edited(
    scene: Scene, kind: str, name: str, edit: Callable[[], Any], broken: Callable[[JSON | None], bool]
) -> Repair:
    """Edit an object in another thread, and measure by a watch how soon it is as before.

    Args:
        scene: where the object is.
        kind: its kind.
        name: its name.
        edit: changes it; may block.
        broken: whether a state of the object shows the edit; of None when it is gone.
    """
    before = await scene.get(kind, name)
    assert before is not None
    assert not broken(before)
    async with watching(scene.api, kind, scene.namespace, before["metadata"]["resourceVersion"]) as events:
        work = asyncio.create_task(asyncio.to_thread(edit))
        seen = 0.0
        async with asyncio.timeout(30):
            async for event in events:
                if event["object"]["metadata"]["name"] != name:
                    continue
                state = None if event["type"] == "DELETED" else event["object"]
                if broken(state):
                    seen = seen or time.monotonic()
                elif seen and state is not None:
                    await work
                    return Repair(time.monotonic() - seen, state)
    raise AssertionError("the watch ended")


def image(obj: JSON | None) -> str:
    return str(obj["spec"]["template"]["spec"]["containers"][0]["image"]) if obj else ""


async def test_podinfo_is_applied_as_git_says(scene: Scene, files: dict[str, str]) -> None:
    """All three objects exist with Flux's labels and field manager, and are the inventory."""
    await install(scene, files)
    for kind, name in OBJECTS:
        obj = await scene.get(kind, name)
        assert obj is not None, kind
        labels = obj["metadata"]["labels"]
        assert labels["kustomize.toolkit.fluxcd.io/name"] == "podinfo"
        assert labels["kustomize.toolkit.fluxcd.io/namespace"] == scene.namespace
        managers = [(entry["manager"], entry["operation"]) for entry in obj["metadata"]["managedFields"]]
        assert ("kustomize-controller", "Apply") in managers
    deployment = await scene.get("Deployment", "podinfo")
    assert image(deployment) == "ghcr.io/stefanprodan/podinfo:6.14.1"
    own = await scene.ready("Kustomization", "podinfo")
    assert inventory(own) == {
        f"{scene.namespace}_podinfo_apps_Deployment",
        f"{scene.namespace}_podinfo__Service",
        f"{scene.namespace}_podinfo_autoscaling_HorizontalPodAutoscaler",
    }
    event = await scene.event("Kustomization", "podinfo", "Progressing", level="Normal")
    assert set(event["message"].splitlines()) == {f"{k}/{scene.namespace}/{n} created" for k, n in OBJECTS}


@pytest.mark.parametrize("edit", ["set image", "patch", "label", "scale the port away", "delete"])
async def test_an_edit_by_hand_is_repaired_at_once(
    cluster: AnyCluster, scene: Scene, files: dict[str, str], edit: str
) -> None:
    """What kubectl changes or deletes is put back within seconds, with an event and no status write."""
    await install(scene, files)
    before = await scene.ready("Kustomization", "podinfo")

    def kubectl(*arguments: str) -> Callable[[], str]:
        return lambda: cluster.kubectl("-n", scene.namespace, *arguments)

    port = json.dumps([{"op": "remove", "path": "/spec/ports/1"}])
    color = {"name": "podinfod", "env": [{"name": "PODINFO_UI_COLOR", "value": "red"}]}
    patch = json.dumps({"spec": {"template": {"spec": {"containers": [color]}}}})
    kind, act, broken = {
        "set image": (
            "Deployment",
            kubectl("set", "image", "deployment/podinfo", "podinfod=evil:1"),
            lambda obj: image(obj) == "evil:1",
        ),
        "patch": (
            "Deployment",
            kubectl("patch", "deployment", "podinfo", "-p", patch),
            lambda obj: '"red"' in json.dumps(obj),
        ),
        "label": (
            "Service",
            kubectl("label", "service", "podinfo", "--overwrite", "kustomize.toolkit.fluxcd.io/name=else"),
            lambda obj: obj["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] == "else",
        ),
        "scale the port away": (
            "Service",
            kubectl("patch", "service", "podinfo", "--type=json", "-p", port),
            lambda obj: len(obj["spec"]["ports"]) == 1,
        ),
        "delete": (
            "Service",
            kubectl("delete", "service", "podinfo", "--wait=false"),
            lambda obj: obj is None,
        ),
    }[edit]
    repair = await edited(scene, kind, "podinfo", act, broken)
    assert repair.seconds < AT_ONCE
    managers = [entry["manager"] for entry in repair.after["metadata"]["managedFields"]]
    assert not [manager for manager in managers if manager.startswith("kubectl")]
    done = "created" if edit == "delete" else "configured"
    line = f"{kind}/{scene.namespace}/podinfo {done}"
    await scene.event("Kustomization", "podinfo", "Progressing", line, level="Normal")
    after = await scene.ready("Kustomization", "podinfo")
    assert after["status"] == before["status"]


async def test_what_kubectl_added_beside_git_is_removed_by_a_repair(
    cluster: AnyCluster, scene: Scene, files: dict[str, str]
) -> None:
    """A field that kubectl added goes with the repair of one that it changed, as in an apply of Flux."""
    await install(scene, files)
    patch = json.dumps({"metadata": {"labels": {"by": "hand"}}, "spec": {"selector": {"app": "other"}}})
    repair = await edited(
        scene,
        "Service",
        "podinfo",
        lambda: cluster.kubectl("-n", scene.namespace, "patch", "service", "podinfo", "-p", patch),
        lambda obj: obj is not None and obj["spec"]["selector"] == {"app": "other"},
    )
    final = await scene.until(
        "Service", "podinfo", lambda obj: obj is not None and "by" not in obj["metadata"]["labels"], "tidy"
    )
    assert repair.seconds < AT_ONCE
    assert final["spec"]["selector"] == {"app": "podinfo"}


async def test_a_rename_in_git_makes_the_new_and_prunes_the_old(scene: Scene, files: dict[str, str]) -> None:
    """After a rename the new objects exist, the old ones are gone, and the inventory names the new ones."""
    await install(scene, files)
    renamed = {path: text.replace("name: podinfo\n", "name: renamed\n") for path, text in files.items()}
    revision = await scene.push(renamed)
    own = await scene.ready("Kustomization", "podinfo", revision)
    for kind, name in OBJECTS:
        await scene.gone(kind, name)
        assert await scene.get(kind, "renamed") is not None
    assert {entry.split("_")[1] for entry in inventory(own)} == {"renamed"}
    events = await scene.events("Kustomization", "podinfo")
    lines = {line for event in events for line in event["message"].splitlines()}
    for kind, _ in OBJECTS:
        assert f"{kind}/{scene.namespace}/renamed created" in lines
        assert f"{kind}/{scene.namespace}/podinfo deleted" in lines


async def test_a_broken_commit_is_told_and_touches_nothing(scene: Scene, files: dict[str, str]) -> None:
    """Broken YAML is shown with file and line, the cluster stays as it was, a mended commit goes on."""
    await install(scene, files)
    path = "kustomize/deployment.yaml"
    lines = files[path].splitlines()
    number = lines.index("  selector:") + 1
    broken = "\n".join([*lines[: number - 1], "  selector: {", *lines[number:], ""])
    before = await frozen(scene)
    revision = await scene.push({path: broken})
    begins = (
        "kustomize build failed: accumulating resources: accumulating resources from 'deployment.yaml': "
        "MalformedYAMLError: yaml: line "
    )
    message = await scene.failed("Kustomization", "podinfo", "BuildFailed", begins)
    assert "in File: deployment.yaml" in message.splitlines()[0]
    # The parser notices it at the next line that cannot belong to the open brace.
    assert any(f"{path}:{at}" in message for at in (number, number + 1, number + 2)), message
    await scene.event("Kustomization", "podinfo", "BuildFailed", begins)
    shown = await scene.get("Kustomization", "podinfo")
    assert shown is not None
    assert shown["status"]["lastAttemptedRevision"] == revision
    assert len(inventory(shown)) == len(OBJECTS)
    assert await frozen(scene) == before
    mended = await scene.push({path: files[path].replace("6.14.1", "6.14.2")})
    await scene.ready("Kustomization", "podinfo", mended)
    assert image(await scene.get("Deployment", "podinfo")).endswith(":6.14.2")


async def frozen(scene: Scene) -> dict[str, str]:
    """Give what is applied, as far as only an apply would change it."""
    found = {}
    for kind, name in OBJECTS:
        obj = await scene.get(kind, name)
        assert obj is not None
        ours = [
            entry for entry in obj["metadata"]["managedFields"] if entry["manager"] == "kustomize-controller"
        ]
        # The autoscaler sets the replicas when it comes to it, and with them the generation.
        spec = {name: value for name, value in obj["spec"].items() if name != "replicas"}
        found[kind] = json.dumps([obj["metadata"]["uid"], spec, ours])
    return found


@pytest.fixture
async def neighbours(api: Api, namespace: str) -> AsyncIterator[str]:
    """Objects that look alike and belong to nobody: same names, same labels, in both namespaces."""
    other = f"{namespace}-next"
    name = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}}
    await api.apply(name, manager="user")
    for where in (namespace, other):
        metadata = {"namespace": where, "labels": {"app": "podinfo"}}
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**metadata, "name": "podinfo"}}
        await api.apply(config, manager="user")
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**metadata, "name": "podinfo" if where == other else "podinfo-two"},
            "spec": {"selector": {"app": "else"}, "ports": [{"port": 80}]},
        }
        await api.apply(service, manager="user")
    # Kubernetes makes these in every namespace, a moment later.
    for where in (namespace, other):
        scene = Scene(api, where, GitServer(Path()))
        await scene.has("ConfigMap", "kube-root-ca.crt")
        await scene.until("ServiceAccount", "default", lambda obj: obj is not None, "made")
    yield other
    await scrub(api, other)


async def leaving(api: Api) -> set[str]:
    """Name the namespaces of earlier tests, which Kubernetes is still taking away."""
    found = await api.list("v1", "Namespace")
    return {item["metadata"]["name"] for item in found if "deletionTimestamp" in item["metadata"]}


async def test_a_deletion_takes_all_of_it_and_nothing_else(
    cluster: AnyCluster, scene: Scene, files: dict[str, str], neighbours: str, running: Engine
) -> None:
    """When the Kustomization is deleted, the cluster holds exactly what it held before podinfo came."""
    for name in await leaving(scene.api):
        await wait_gone(scene.api, "v1", "Namespace", name)
    before = await contents(scene.api)
    mark = cluster.mark() if hasattr(cluster, "mark") else 0
    await install(scene, files)
    assert await scene.get("Namespace", neighbours, "") is not None
    await scene.delete("Kustomization", "podinfo")
    await scene.gone("Kustomization", "podinfo")
    for kind, name in OBJECTS:
        await scene.gone(kind, name)
    await scene.delete("GitRepository", "repo")
    await scene.gone("GitRepository", "repo")
    await settles(scene.api, before, ())
    if hasattr(cluster, "audit"):
        written = {
            (line.resource, line.namespace, line.name)
            for line in cluster.audit(running.user, mark)
            if line.writes and line.resource not in ("events", "leases")
        }
        own = [("kustomizations", "podinfo"), ("gitrepositories", "repo")]
        applied = [(f"{kind.lower()}s", name) for kind, name in OBJECTS]
        assert written == {(plural, scene.namespace, name) for plural, name in [*own, *applied]}


async def test_a_suspended_kustomization_leaves_its_objects_when_deleted(
    scene: Scene, files: dict[str, str]
) -> None:
    """While suspended, edits stay; deleted while suspended, everything that was applied stays."""
    await install(scene, files)
    await scene.kustomization("podinfo", path="./kustomize", suspend=True)
    bystander = Bystander(scene.namespace, scene.git)
    await scene.api.patch("v1", "Service", "podinfo", scene.namespace, {"spec": {"selector": {"app": "x"}}})
    # Another one that comes and becomes ready shows that the engine is past the edit.
    await bystander.works(scene.api)
    service = await scene.get("Service", "podinfo")
    assert service is not None
    assert service["spec"]["selector"] == {"app": "x"}
    await scene.delete("Kustomization", "podinfo")
    await scene.gone("Kustomization", "podinfo")
    for kind, name in OBJECTS:
        assert await scene.get(kind, name) is not None


async def test_a_kustomization_without_a_file_of_its_own_is_generated(scene: Scene) -> None:
    """A folder of plain manifests is applied whole."""
    revision = scene.commit({"app/a.yaml": config_map("a", k="v"), "app/more/b.yml": config_map("b", k="v")})
    await scene.source()
    await scene.kustomization()
    await scene.ready("Kustomization", "app", revision)
    await scene.has("ConfigMap", "a", k="v")
    await scene.has("ConfigMap", "b", k="v")
