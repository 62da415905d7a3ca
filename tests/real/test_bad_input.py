"""Bad input: each case is told clearly, harms nothing else, and ends when it is mended.

In every test a healthy Kustomization of another namespace goes on working.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import re
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.real.conftest import AnyCluster, engines
from tests.real.engine import Engine
from tests.real.scene import (
    Bystander,
    Scene,
    check_kstatus,
    condition,
    config_map,
    inventory,
    watching,
)
from tests.real.scrub import scrub
from tests.realcluster.api import JSON, Api
from tests.realcluster.cluster import RealCluster
from tests.realcluster.processes import free_port
from tests.servers.git import GitServer, Link, SshGitServer

CLONE = "failed to checkout and determine revision: unable to clone '{url}': "
LIST = "failed to checkout and determine revision: unable to list remote for '{url}': "
BUILD = "kustomize build failed: accumulating resources: "
FILES = {"app/a.yaml": config_map("a", k="v")}
# A folder that only exists in messages; Flux's text names its temporary one here.
FOLDER = r"/tmp/kustomization-\d+"
DRIFT_BACKOFF = 2.0
FLAGS = {
    "time-limit-floor": "5s",
    "requeue-dependency": "2s",
    "min-retry-delay": "200ms",
    "drift-backoff": f"{DRIFT_BACKOFF:g}s",
    # No line of any severity may hold a secret.
    "log-level": "debug",
}


@pytest.fixture(scope="module")
def running(cluster: AnyCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for all tests of this module."""
    with engines(cluster, tmp_path_factory.mktemp("bad"), os.urandom(3).hex()) as make:
        yield make(flags=FLAGS).start()


@pytest.fixture(scope="module")
def healthy(cluster: AnyCluster, git_server: GitServer, running: Engine) -> Iterator[Bystander]:
    """A Kustomization that is well, and must stay so."""
    name = f"healthy-{os.urandom(3).hex()}"
    cluster.kubectl("create", "namespace", name)
    yield Bystander(name, git_server)

    async def clean() -> None:
        async with cluster.api() as client:
            await scrub(client, name, patience=5.0)

    asyncio.run(clean())


@pytest.fixture
def scene(api: Api, namespace: str, git_server: GitServer, running: Engine) -> Scene:
    return Scene(api, namespace, git_server)


async def refused_build(scene: Scene, begins: str, path: str = "./app") -> str:
    """Have a commit built, and wait until it is refused; gives the whole message."""
    await scene.source()
    await scene.kustomization(path=path)
    message = await scene.failed("Kustomization", "app", "BuildFailed", begins)
    await scene.event("Kustomization", "app", "BuildFailed", message)
    return message


async def mended(scene: Scene) -> None:
    """Replace everything by what is right, and see it applied."""
    revision = await scene.push({"app/a.yaml": config_map("a", k="mended")}, replace=True)
    await scene.ready("Kustomization", "app", revision)
    await scene.has("ConfigMap", "a", k="mended")


# -- sources -------------------------------------------------------------------------------


async def test_an_unreachable_repository_is_told(scene: Scene, healthy: Bystander) -> None:
    """Nobody listens: the source says so in Flux's words, its user that it waits for an artifact."""
    url = f"http://127.0.0.1:{free_port()}/nobody.git"
    await scene.source(url=url)
    await scene.kustomization()
    begins = CLONE.format(url=url)
    message = await scene.failed("GitRepository", "repo", "GitOperationFailed", begins)
    assert "connection refused" in message.splitlines()[0]
    await scene.event("GitRepository", "repo", "GitOperationFailed", begins)
    found = await scene.get("GitRepository", "repo")
    assert found is not None
    assert condition(found, "FetchFailed")["status"] == "True"
    waits = "Source artifact not found, retrying in "
    await scene.failed("Kustomization", "app", "ArtifactFailed", waits)
    # What is wrong with the source is shown from the next look on.
    await scene.until(
        "Kustomization",
        "app",
        lambda obj: "connection refused" in condition(obj or {}, "Ready").get("message", ""),
        "names the cause",
    )
    await healthy.works(scene.api)


async def test_a_repository_that_went_away_takes_nothing_with_it(scene: Scene, healthy: Bystander) -> None:
    """What was applied stays ready from the last artifact while its repository cannot be reached."""
    revision = scene.commit(FILES)
    await scene.source()
    await scene.kustomization()
    await scene.ready("Kustomization", "app", revision)
    url = f"http://127.0.0.1:{free_port()}/gone.git"
    await scene.source(url=url)
    await scene.failed("GitRepository", "repo", "GitOperationFailed", LIST.format(url=url))
    await scene.api.delete("v1", "ConfigMap", "a", scene.namespace)
    await scene.has("ConfigMap", "a", k="v")
    await scene.ready("Kustomization", "app", revision)
    await scene.source()
    await scene.ready("GitRepository", "repo")
    await healthy.works(scene.api)


async def test_wrong_credentials_are_told_and_not_shown(
    scene: Scene, healthy: Bystander, running: Engine, tmp_path: Path
) -> None:
    """A refused password is named as such; it stands in no status, event or log line."""
    canary = "canary-of-the-wrong-password"
    with GitServer(tmp_path / "git", username="user", password="the right one") as server:
        private = Scene(scene.api, scene.namespace, server)
        private.commit(FILES)
        await scene.apply("Secret", "git", stringData={"username": "user", "password": canary})
        await private.source(secretRef={"name": "git"})
        begins = CLONE.format(url=private.url()) + "authentication required"
        message = await scene.failed("GitRepository", "repo", "GitOperationFailed", begins)
        assert "spec.secretRef" in message
        await scene.event("GitRepository", "repo", "GitOperationFailed", begins)
        await unseen(scene, running, canary)
        await scene.apply("Secret", "git", stringData={"username": "user", "password": server.password})
        await scene.ready("GitRepository", "repo")
        await unseen(scene, running, server.password)
    await healthy.works(scene.api)


async def test_a_missing_secret_is_told(scene: Scene, healthy: Bystander) -> None:
    """A source whose Secret is not there says which one, and goes on once it is."""
    scene.commit(FILES)
    await scene.source(secretRef={"name": "absent"})
    begins = f"failed to get secret '{scene.namespace}/absent': secrets \"absent\" not found"
    await scene.failed("GitRepository", "repo", "AuthenticationFailed", begins)
    await scene.event("GitRepository", "repo", "AuthenticationFailed", begins)
    await scene.apply("Secret", "absent", stringData={"username": "any", "password": "word"})
    await scene.ready("GitRepository", "repo")
    await healthy.works(scene.api)


@pytest.mark.parametrize("known", ["of another host", "with another key"])
async def test_an_unknown_host_key_is_refused(
    scene: Scene, healthy: Bystander, tmp_path: Path, known: str
) -> None:
    """A server whose key is not in known_hosts gets no connection, and the message says why."""
    if not SshGitServer.available():
        missing("sshd is not installed (Debian: openssh-server)", os.environ)
    with (
        SshGitServer(tmp_path / "git", tmp_path / "ssh") as server,
        SshGitServer(tmp_path / "git", tmp_path / "other") as other,
    ):
        local = Scene(scene.api, scene.namespace, GitServer(server.root))
        local.commit(FILES)
        url = server.url(f"{scene.namespace}-repo")
        right = server.known_hosts.decode()
        wrong = right.replace(right.split()[2], other.known_hosts.decode().split()[2])
        lines = {"of another host": other.known_hosts.decode(), "with another key": wrong}[known]
        identity = server.identity.decode()
        await scene.apply("Secret", "ssh", stringData={"identity": identity, "known_hosts": lines})
        await scene.source(url=url, secretRef={"name": "ssh"})
        told = {"of another host": "key is unknown", "with another key": "key mismatch"}[known]
        begins = CLONE.format(url=url) + f"ssh: handshake failed: knownhosts: {told}"
        message = await scene.failed("GitRepository", "repo", "GitOperationFailed", begins)
        assert "known_hosts" in message
        await scene.event("GitRepository", "repo", "GitOperationFailed", begins)
        await scene.apply("Secret", "ssh", stringData={"identity": identity, "known_hosts": right})
        await scene.ready("GitRepository", "repo")
    await healthy.works(scene.api)


# -- builds --------------------------------------------------------------------------------


async def test_a_missing_path_is_told(scene: Scene, healthy: Bystander) -> None:
    """A path that the repository does not have is named in Flux's words."""
    scene.commit(FILES)
    await scene.source()
    await scene.kustomization(path="./none")
    begins = "kustomization path not found: stat "
    message = await scene.failed("Kustomization", "app", "ArtifactFailed", begins)
    assert re.match(f"{begins}{FOLDER}/none: no such file or directory", message), message
    await scene.event("Kustomization", "app", "ArtifactFailed", message)
    await scene.kustomization()
    await scene.ready("Kustomization", "app")
    await healthy.works(scene.api)


async def test_invalid_yaml_is_told_with_file_and_line(scene: Scene, healthy: Bystander) -> None:
    """A file that is no YAML is named with its line; nothing of its Kustomization is applied."""
    broken = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b\ndata: {k: v}\n"
    scene.commit({**FILES, "app/kustomization.yaml": "resources: [a.yaml, b.yaml]\n", "app/b.yaml": broken})
    begins = f"{BUILD}accumulating resources from 'b.yaml': MalformedYAMLError: yaml: line "
    message = await refused_build(scene, begins)
    assert message.splitlines()[0].endswith("in File: b.yaml")
    assert re.search(r"app/b\.yaml:[34]\b", message), message
    assert await scene.get("ConfigMap", "a") is None
    await mended(scene)
    await healthy.works(scene.api)


async def test_invalid_yaml_in_a_generated_kustomization_is_told(scene: Scene, healthy: Bystander) -> None:
    """Also in a folder without a kustomization.yaml the broken file and its line are named."""
    scene.commit({**FILES, "app/deep/b.yaml": "apiVersion: v1\nkind: ConfigMap\n\tmetadata: {}\n"})
    message = await refused_build(scene, "")
    assert re.search(r"app/deep/b\.yaml:3\b", message), message
    assert await scene.get("ConfigMap", "a") is None
    await mended(scene)
    await healthy.works(scene.api)


async def test_a_build_cycle_is_refused(scene: Scene, healthy: Bystander) -> None:
    """Two kustomizations that name each other end as an error that says so, at once."""
    scene.commit(
        {
            "app/kustomization.yaml": "resources: [../other]\n",
            "other/kustomization.yaml": "resources: [../app]\n",
        }
    )
    message = await refused_build(scene, BUILD)
    assert "cycle detected" in message.splitlines()[0]
    await mended(scene)
    await healthy.works(scene.api)


@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
async def test_a_symlink_out_of_the_tree_is_not_followed(
    scene: Scene, healthy: Bystander, running: Engine, tmp_path: Path, absolute: bool
) -> None:
    """A link to a file outside of the repository leads nowhere, and its content is shown to nobody."""
    outside = tmp_path / "outside.yaml"
    outside.write_text(config_map("stolen", canary="canary-outside"))
    target = str(outside) if absolute else "../../../../../../../../../../../../.." + str(outside)
    scene.commit(
        {**FILES, "app/kustomization.yaml": "resources: [a.yaml, link.yaml]\n", "app/link.yaml": Link(target)}
    )
    message = await refused_build(scene, BUILD)
    assert "'link.yaml' leads out of the repository" in message
    assert await scene.get("ConfigMap", "stolen") is None
    assert await scene.get("ConfigMap", "a") is None
    await unseen(scene, running, "canary-outside")
    await mended(scene)
    await healthy.works(scene.api)


@pytest.mark.parametrize("place", ["in a resource", "in the kustomization"])
async def test_an_alias_bomb_is_refused(
    scene: Scene, healthy: Bystander, running: Engine, place: str
) -> None:
    """A few lines of YAML that stand for billions cost neither time nor memory."""
    rows = ["b0: &b0 [boom, boom, boom, boom, boom, boom, boom, boom, boom, boom]"]
    rows += [f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 10)}]" for n in range(1, 10)]
    bomb = "\n".join([*rows, ""])
    if place == "in a resource":
        files = {"app/kustomization.yaml": "resources: [a.yaml, b.yaml]\n"}
        files["app/b.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\n" + bomb
    else:
        files = {"app/kustomization.yaml": "resources: [a.yaml]\n" + bomb}
    before = running.memory()
    scene.commit({**FILES, **files})
    started = time.monotonic()
    message = await refused_build(scene, "")
    assert time.monotonic() - started < 10
    assert "alias" in message
    assert ("app/b.yaml" if place == "in a resource" else "app/kustomization.yaml") in message
    assert running.memory() - before < 100 * 1024 * 1024
    assert await scene.get("ConfigMap", "a") is None
    await mended(scene)
    await healthy.works(scene.api)


# -- applies -------------------------------------------------------------------------------


async def test_a_refused_object_stops_its_stage(
    cluster: AnyCluster, scene: Scene, healthy: Bystander, running: Engine
) -> None:
    """What the API server refuses is named with its field, and nothing of its stage is written."""
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 99999}]}\n"
    scene.commit({**FILES, "app/s.yaml": service})
    mark = cluster.mark() if isinstance(cluster, RealCluster) else 0
    await scene.source()
    await scene.kustomization()
    begins = (
        f'Service/{scene.namespace}/s dry-run failed (Invalid): Service "s" is invalid: '
        "[spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535"
    )
    message = await scene.failed("Kustomization", "app", "ReconciliationFailed", begins)
    assert "spec.ports[0].port" in message.split("\n", 1)[1]
    await scene.event("Kustomization", "app", "ReconciliationFailed", begins)
    assert await scene.get("ConfigMap", "a") is None
    if isinstance(cluster, RealCluster):
        lines = [line for line in cluster.audit(running.user, mark) if line.namespace == scene.namespace]
        written = {line.resource for line in lines if line.writes}
        assert written <= {"gitrepositories", "kustomizations", "events"}
        assert any(line.dry_run and line.resource == "services" for line in lines)
    await mended(scene)
    await healthy.works(scene.api)


async def test_an_apply_denied_by_rbac_is_told(scene: Scene, healthy: Bystander) -> None:
    """What the tenant's account may not do is refused in the API server's words; a binding mends it."""
    scene.commit(FILES)
    await scene.apply("ServiceAccount", "team")
    await scene.source()
    await scene.kustomization(serviceAccountName="team")
    begins = (
        f'ConfigMap/{scene.namespace}/a dry-run failed (Forbidden): configmaps "a" is forbidden: '
        f'User "system:serviceaccount:{scene.namespace}:team" cannot patch resource "configmaps"'
    )
    await scene.failed("Kustomization", "app", "ReconciliationFailed", begins)
    await scene.event("Kustomization", "app", "ReconciliationFailed", begins)
    await scene.bind("team", {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]})
    await scene.ready("Kustomization", "app")
    await healthy.works(scene.api)


async def test_an_apply_into_a_namespace_that_is_being_deleted_is_told(
    scene: Scene, healthy: Bystander
) -> None:
    """Where the target namespace goes away, nothing new is made, and the message says why."""
    target = f"{scene.namespace}-going"
    name: JSON = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": target}}
    await scene.api.apply(name, manager="user")
    kept = {"name": "kept", "namespace": target, "finalizers": ["gitwright.dev/test"]}
    await scene.api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": kept}, manager="user")
    await scene.api.delete("v1", "Namespace", target)
    scene.commit(FILES)
    await scene.source()
    await scene.kustomization(targetNamespace=target)
    begins = (
        f'ConfigMap/{target}/a dry-run failed (Forbidden): configmaps "a" is forbidden: '
        f"unable to create new content in namespace {target} because it is being terminated"
    )
    await scene.failed("Kustomization", "app", "ReconciliationFailed", begins)
    await scene.event("Kustomization", "app", "ReconciliationFailed", begins)
    await healthy.works(scene.api)
    body = {"metadata": {"finalizers": None}}
    await scene.api.patch("v1", "ConfigMap", "kept", target, body)


async def test_a_namespace_with_our_objects_in_it_can_be_deleted(scene: Scene, healthy: Bystander) -> None:
    """Deleting the namespace of a source, a Kustomization and its objects ends, with none of them left."""
    revision = scene.commit(FILES)
    await scene.source()
    await scene.kustomization()
    await scene.ready("Kustomization", "app", revision)
    await scene.api.delete("v1", "Namespace", scene.namespace)
    await scene.gone("Kustomization", "app")
    await scene.gone("GitRepository", "repo")
    await scene.gone("Namespace", scene.namespace, patience=60)
    await healthy.works(scene.api)


# -- dependencies --------------------------------------------------------------------------


async def test_a_missing_dependency_is_waited_for(scene: Scene, healthy: Bystander) -> None:
    """What is not there yet is named, as Flux does by a Normal event, and taken up when it comes."""
    scene.commit({**FILES, "first/b.yaml": config_map("b", k="v")})
    await scene.source()
    await scene.kustomization(dependsOn=[{"name": "first"}])
    begins = (
        f"dependency '{scene.namespace}/first' not found: "
        'kustomizations.kustomize.toolkit.fluxcd.io "first" not found'
    )
    await scene.failed("Kustomization", "app", "DependencyNotReady", begins)
    told = "Dependencies do not meet ready condition, retrying in 2s"
    await scene.event("Kustomization", "app", "DependencyNotReady", told, level="Normal")
    assert await scene.get("ConfigMap", "a") is None
    await scene.kustomization("first", path="./first")
    await scene.ready("Kustomization", "app")
    await healthy.works(scene.api)


async def test_a_cycle_of_dependencies_is_named(scene: Scene, healthy: Bystander) -> None:
    """Three Kustomizations that wait for each other say in which order they do; cutting it frees them."""
    scene.commit(FILES)
    await scene.source()
    names = ("app", "two", "three")
    for name, other in zip(names, (*names[1:], names[0]), strict=True):
        await scene.kustomization(name, dependsOn=[{"name": other}])
    where = scene.namespace
    cycle = f"{where}/app -> {where}/two -> {where}/three -> {where}/app"
    begins = f"dependency '{where}/two' is not ready"
    found = await scene.until(
        "Kustomization", "app", lambda obj: cycle in str(condition(obj or {}, "Ready").get("message")), cycle
    )
    check_kstatus(found)
    ready = condition(found, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "DependencyNotReady")
    assert ready["message"].startswith(begins)
    told = "Dependencies do not meet ready condition, retrying in 2s"
    for name in names:
        await scene.event("Kustomization", name, "DependencyNotReady", told, level="Normal")
    await scene.kustomization("app")
    for name in names:
        await scene.ready("Kustomization", name)
    await healthy.works(scene.api)


# -- wars ----------------------------------------------------------------------------------


async def test_two_kustomizations_on_one_object_start_no_war(
    cluster: AnyCluster, scene: Scene, healthy: Bystander, running: Engine
) -> None:
    """Two that want different contents of one object write it once each, not at every interval."""
    one = scene.commit({"app/shared.yaml": config_map("shared", k="one")}, "one")
    two = scene.commit({"app/shared.yaml": config_map("shared", k="two")}, "two")
    for name in ("one", "two"):
        await scene.source(name)
        await scene.kustomization(name, source=name, interval="1s")
        await scene.ready("Kustomization", name, {"one": one, "two": two}[name])
    before = await scene.has("ConfigMap", "shared", k="two")
    mark = cluster.mark() if isinstance(cluster, RealCluster) else 0
    writes = 0
    version = before["metadata"]["resourceVersion"]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10), watching(scene.api, "ConfigMap", scene.namespace, version) as events:
            async for event in events:
                writes += event["object"]["metadata"]["name"] == "shared"
    assert writes == 0
    if isinstance(cluster, RealCluster):
        lines = cluster.audit(running.user, mark)
        assert not [line for line in lines if line.name == "shared" and line.verb != "get"]
    # A new revision of the other one takes it, and that is one write again.
    revision = await scene.push({"app/shared.yaml": config_map("shared", k="three")}, "one")
    await scene.has("ConfigMap", "shared", k="three")
    await scene.ready("Kustomization", "one", revision)
    await healthy.works(scene.api)


async def test_a_writer_that_edits_back_for_ever_is_named(
    scene: Scene, healthy: Bystander, running: Engine
) -> None:
    """The first repairs are immediate, then each waits longer, and a Warning names field and manager."""
    revision = scene.commit(FILES)
    await scene.source()
    await scene.kustomization()
    await scene.ready("Kustomization", "app", revision)
    found = await scene.get("ConfigMap", "a")
    assert found is not None
    repairs: list[float] = []

    async def rival() -> None:
        version = found["metadata"]["resourceVersion"]
        async with watching(scene.api, "ConfigMap", scene.namespace, version) as events:
            await edit()
            async for event in events:
                obj = event["object"]
                if obj["metadata"]["name"] == "a" and obj["data"]["k"] == "v":
                    repairs.append(time.monotonic())
                    await edit()

    async def edit() -> None:
        await scene.api.patch("v1", "ConfigMap", "a", scene.namespace, {"data": {"k": "x"}}, manager="rival")

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(7 * DRIFT_BACKOFF):
            await rival()
    gaps = [after - before for before, after in itertools.pairwise(repairs)]
    assert 3 <= len(repairs) <= 5, gaps
    # Two are free; the ones after them wait, each twice as long as the one before.
    waits = [gap for gap in gaps if gap > 0.9 * DRIFT_BACKOFF]
    assert len(gaps) - len(waits) == 1, gaps
    assert len(waits) >= 2, gaps
    assert waits[1] > 1.5 * waits[0], gaps
    warning = await scene.event("Kustomization", "app", "DriftRepeated", f"ConfigMap/{scene.namespace}/a ")
    assert "rival" in warning["message"]
    assert "data.k" in warning["message"]
    await scene.ready("Kustomization", "app", revision)
    # A new revision begins anew: it is applied at once.
    newer = await scene.push({"app/a.yaml": config_map("a", k="new")})
    await scene.ready("Kustomization", "app", newer)
    await scene.has("ConfigMap", "a", k="new")
    await healthy.works(scene.api)


# -- secrets -------------------------------------------------------------------------------


async def unseen(scene: Scene, running: Engine, canary: str) -> None:
    """Raise AssertionError when a secret stands in a status, an event or the engine's log, in any form."""
    said = await scene.said() + running.log_text()
    for form in (canary, base64.b64encode(canary.encode()).decode(), urllib.parse.quote(canary)):
        assert form not in said


async def test_a_secret_used_for_substitution_is_never_shown(
    scene: Scene, healthy: Bystander, running: Engine
) -> None:
    """A value from a Secret that makes an object invalid is masked wherever the refusal is told."""
    canary = "canary-of-a-substituted-secret"
    await scene.apply("Secret", "values", stringData={"token": canary})
    service = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
        "spec: {type: '${token}', ports: [{name: '${token}', port: 99999}]}\n"
    )
    scene.commit({"app/s.yaml": service, "app/a.yaml": config_map("a", k="${token}")})
    await scene.source()
    from_secret = {"substituteFrom": [{"kind": "Secret", "name": "values"}]}
    await scene.kustomization(postBuild=from_secret)
    await scene.failed(
        "Kustomization",
        "app",
        "ReconciliationFailed",
        f"Service/{scene.namespace}/s dry-run failed (Invalid): ",
    )
    warning = await scene.event("Kustomization", "app", "ReconciliationFailed")
    assert "***" in warning["message"]
    await unseen(scene, running, canary)
    # Now it is valid: it goes where it belongs, and nowhere else.
    revision = await scene.push({"app/s.yaml": None})
    await scene.ready("Kustomization", "app", revision)
    await scene.has("ConfigMap", "a", k=canary)
    await unseen(scene, running, canary)
    await healthy.works(scene.api)


async def test_a_secret_in_git_is_never_shown(scene: Scene, healthy: Bystander, running: Engine) -> None:
    """A value of a Secret manifest that the API server refuses, and quotes, is masked."""
    canary = "canary-of-a-secret-in-git"
    secret = (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"
        f"stringData: {{k: {canary}}}\ndata: {{raw: '!{canary}!'}}\n"
    )
    scene.commit({"app/s.yaml": secret})
    await scene.source()
    await scene.kustomization()
    await scene.failed("Kustomization", "app", "ReconciliationFailed", f"Secret/{scene.namespace}/s ")
    await scene.event("Kustomization", "app", "ReconciliationFailed", f"Secret/{scene.namespace}/s ")
    await unseen(scene, running, canary)
    await healthy.works(scene.api)


async def test_what_was_applied_survives_every_failure(scene: Scene, healthy: Bystander) -> None:
    """A Kustomization that fails in turn to fetch, build and apply keeps its objects and its inventory."""
    revision = scene.commit(FILES)
    await scene.source()
    await scene.kustomization()
    before = inventory(await scene.ready("Kustomization", "app", revision))
    first = await scene.has("ConfigMap", "a", k="v")
    bad = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: UPPER}\n"
    await scene.push({"app/bad.yaml": bad})
    await scene.failed("Kustomization", "app", "ReconciliationFailed", f"ConfigMap/{scene.namespace}/UPPER ")
    await scene.push({"app/bad.yaml": "}{"})
    await scene.failed("Kustomization", "app", "BuildFailed")
    await scene.kustomization(path="./none")
    await scene.failed("Kustomization", "app", "ArtifactFailed")
    found = await scene.get("Kustomization", "app")
    assert found is not None
    assert inventory(found) == before
    last = await scene.has("ConfigMap", "a", k="v")
    assert last["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    await healthy.works(scene.api)
