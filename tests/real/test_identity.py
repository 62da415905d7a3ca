"""The engine as the service account that `gitwright install` makes, in both profiles."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitwright.api.manifests import installation
from tests.real.conftest import AnyCluster, engines
from tests.real.engine import Engine
from tests.real.scene import Scene, condition, config_map
from tests.realcluster.api import JSON, Api
from tests.realcluster.audit import AuditLine
from tests.realcluster.cluster import RealCluster
from tests.servers.git import GitServer

# What else `install` makes: this cluster wants no second engine and no other definitions.
_NOT_HERE = ("Deployment", "CustomResourceDefinition")
CONFIG_MAPS: JSON = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}


@contextmanager
def installed(cluster: RealCluster, folder: Path, *, lockdown: bool) -> Iterator[Engine]:
    """Install the rights, and run the engine with the token of the account that has them."""
    namespace = f"run-{'lockdown' if lockdown else 'default'}-{os.urandom(3).hex()}"
    objects = [
        obj
        for obj in installation("none.example.com/gitwright", namespace, lockdown=lockdown)
        if obj["kind"] not in _NOT_HERE
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=text)
    token = cluster.kubectl("create", "token", "gitwright", "-n", namespace, "--duration=1h").strip()
    config = yaml.safe_load(cluster.kubeconfig().read_text())
    config["users"][0]["user"] = {"token": token}
    kubeconfig = folder / "engine.kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    flags = {"lockdown": "true"} if lockdown else {}
    flags |= {"requeue-dependency": "2s", "min-retry-delay": "200ms"}
    try:
        with engines(cluster, folder, os.urandom(3).hex()) as make:
            yield make(
                namespace=namespace,
                user=f"system:serviceaccount:{namespace}:gitwright",
                kubeconfig=kubeconfig,
                flags=flags,
            ).start()
    finally:
        # The names of cluster-wide roles are the same for both profiles.
        cluster.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", input=text)


@pytest.fixture(scope="module")
def own(cluster: AnyCluster) -> RealCluster:
    if not isinstance(cluster, RealCluster):
        pytest.skip("needs a cluster of our own: rights are counted in its audit log")
    return cluster


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, own: RealCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """The engine, in the profile that the test asks for."""
    with installed(own, tmp_path_factory.mktemp("identity"), lockdown=request.param) as engine:
        yield engine


DEFAULT = pytest.mark.parametrize("running", [False], ids=["default"], indirect=True, scope="module")
LOCKDOWN = pytest.mark.parametrize("running", [True], ids=["lockdown"], indirect=True, scope="module")
BOTH = pytest.mark.parametrize(
    "running", [False, True], ids=["default", "lockdown"], indirect=True, scope="module"
)


@pytest.fixture
def scene(api: Api, namespace: str, git_server: GitServer, running: Engine) -> Scene:
    return Scene(api, namespace, git_server)


@pytest.fixture
def sent(own: RealCluster, running: Engine, scene: Scene) -> Callable[..., list[AuditLine]]:
    """What the engine has asked for since the test began, in the test's own namespace."""
    mark = own.mark()

    def lines(**having: Any) -> list[AuditLine]:
        return [
            line
            for line in own.audit(running.user, mark)
            if line.namespace == scene.namespace
            and all(getattr(line, name) == value for name, value in having.items())
        ]

    return lines


def tenant(scene: Scene, account: str = "default") -> str:
    return f"system:serviceaccount:{scene.namespace}:{account}"


def forbidden(sent: Callable[..., list[AuditLine]]) -> list[str]:
    """Give the requests that the API server refused to the engine itself, not to a tenant."""
    return [str(line) for line in sent(code=403) if not line.impersonated]


@DEFAULT
async def test_the_default_profile_applies_as_itself(
    scene: Scene, sent: Callable[..., list[AuditLine]]
) -> None:
    """Bound as Flux's controllers are, the engine applies, repairs, prunes and deletes as itself."""
    role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r}\nrules: []\n"
    revision = scene.commit({"app/a.yaml": config_map("a", k="v"), "app/r.yaml": role})
    await scene.source()
    await scene.kustomization(wait=True)
    await scene.ready("Kustomization", "app", revision)
    await scene.api.patch("v1", "ConfigMap", "a", scene.namespace, {"data": {"k": "x"}})
    await scene.has("ConfigMap", "a", k="v")
    newer = await scene.push({"app/r.yaml": None})
    await scene.ready("Kustomization", "app", newer)
    await scene.gone("Role", "r")
    await scene.delete("Kustomization", "app")
    await scene.gone("ConfigMap", "a")
    await scene.gone("Kustomization", "app")
    assert {line.impersonated for line in sent()} == {""}
    assert forbidden(sent) == []


@DEFAULT
async def test_the_default_profile_acts_as_a_named_account(
    scene: Scene, sent: Callable[..., list[AuditLine]]
) -> None:
    """With spec.serviceAccountName every read of a reference and every write is the tenant's."""
    await substituting(scene, "team", serviceAccountName="team")
    assert_as_tenant(sent, tenant(scene, "team"))


@BOTH
async def test_objects_of_an_account_that_is_gone_are_left(
    scene: Scene, sent: Callable[..., list[AuditLine]]
) -> None:
    """A Kustomization whose service account was deleted first goes, and leaves its objects, as Flux does."""
    revision = scene.commit({"app/a.yaml": config_map("a", k="v")})
    await scene.apply("ServiceAccount", "team")
    await scene.bind("team", CONFIG_MAPS)
    await scene.source()
    await scene.kustomization(serviceAccountName="team")
    await scene.ready("Kustomization", "app", revision)
    await scene.delete("ServiceAccount", "team")
    await scene.delete("Kustomization", "app")
    await scene.gone("Kustomization", "app")
    assert await scene.get("ConfigMap", "a") is not None
    await scene.event("Kustomization", "app", "ReconciliationSucceeded", "unable to prune objects: ")
    assert forbidden(sent) == []


@LOCKDOWN
async def test_under_lockdown_the_tenants_default_account_decides(
    scene: Scene, sent: Callable[..., list[AuditLine]]
) -> None:
    """Without a RoleBinding of the tenant nothing is applied; with one it is, and is deleted again."""
    revision = scene.commit({"app/a.yaml": config_map("a", k="v")})
    await scene.source()
    await scene.kustomization()
    begins = (
        f'ConfigMap/{scene.namespace}/a dry-run failed (Forbidden): configmaps "a" is forbidden: '
        f'User "{tenant(scene)}" cannot patch resource "configmaps" in API group "" '
        f'in the namespace "{scene.namespace}"'
    )
    await scene.failed("Kustomization", "app", "ReconciliationFailed", begins)
    await scene.event("Kustomization", "app", "ReconciliationFailed", begins)
    assert await scene.get("ConfigMap", "a") is None
    await scene.bind("default", CONFIG_MAPS)
    await scene.ready("Kustomization", "app", revision)
    await scene.api.patch("v1", "ConfigMap", "a", scene.namespace, {"data": {"k": "x"}})
    await scene.has("ConfigMap", "a", k="v")
    await scene.delete("Kustomization", "app")
    await scene.gone("ConfigMap", "a")
    await scene.gone("Kustomization", "app")
    written = [line for line in sent(resource="configmaps") if line.writes and line.code < 400]
    assert {line.verb for line in written} == {"patch", "delete"}
    assert {line.impersonated for line in written} == {tenant(scene)}
    assert forbidden(sent) == []


@LOCKDOWN
async def test_under_lockdown_health_is_waited_for(
    scene: Scene, sent: Callable[..., list[AuditLine]]
) -> None:
    """`wait` and listed health checks work with watches alone, and need no further right of the engine."""
    deployment = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  replicas: 0\n"
        "  selector: {matchLabels: {app: d}}\n  template:\n    metadata: {labels: {app: d}}\n"
        "    spec: {containers: [{name: c, image: none}]}\n"
    )
    await scene.bind(
        "default", CONFIG_MAPS, {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["*"]}
    )
    revision = scene.commit({"app/d.yaml": deployment, "app/a.yaml": config_map("a", k="v")})
    await scene.source()
    await scene.kustomization(wait=True)
    await scene.ready("Kustomization", "app", revision)
    check = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "namespace": scene.namespace}
    rule = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "current": "status.observedGeneration == metadata.generation",
    }
    # Other expressions than before: what was judged already is judged anew.
    await scene.kustomization(wait=True, healthCheckExprs=[rule])
    await scene.ready("Kustomization", "app", revision)
    await scene.kustomization("listed", path="./none", healthChecks=[check], healthCheckExprs=[rule])
    await scene.push({"none/b.yaml": config_map("b", k="v")})
    found = await scene.ready("Kustomization", "listed")
    assert condition(found, "Healthy")["status"] == "True"
    assert forbidden(sent) == []


async def substituting(scene: Scene, account: str, **spec: Any) -> None:
    """Take a variable from a Secret that the tenant may not read at first, and then may."""
    await scene.apply("Secret", "values", stringData={"word": "of-the-tenant"})
    if account != "default":
        await scene.apply("ServiceAccount", account)
    await scene.bind(account, CONFIG_MAPS)
    revision = scene.commit({"app/a.yaml": config_map("a", k="${word}")})
    await scene.source()
    refs = [{"kind": "Secret", "name": "values"}]
    await scene.kustomization(postBuild={"substituteFrom": refs}, **spec)
    begins = (
        "post build failed for 'ConfigMap.v1.[noGrp]/a': substitute from 'Secret/values' error: "
        f'secrets "values" is forbidden: User "{tenant(scene, account)}" cannot get resource "secrets"'
    )
    await scene.failed("Kustomization", "app", "BuildFailed", begins)
    await scene.event("Kustomization", "app", "BuildFailed", begins)
    assert await scene.get("ConfigMap", "a") is None
    await scene.bind(account, CONFIG_MAPS, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]})
    await scene.ready("Kustomization", "app", revision)
    await scene.has("ConfigMap", "a", k="of-the-tenant")


def assert_as_tenant(sent: Callable[..., list[AuditLine]], who: str) -> None:
    """Raise AssertionError unless Secrets were read, and ConfigMaps written, as the tenant alone."""
    reads = sent(resource="secrets", verb="get")
    assert [line for line in reads if line.code == 200]
    writes = [line for line in sent(resource="configmaps") if line.writes]
    assert writes
    assert {line.impersonated for line in [*reads, *writes]} == {who}


@LOCKDOWN
async def test_under_lockdown_references_are_read_as_the_tenant(
    scene: Scene, sent: Callable[..., list[AuditLine]]
) -> None:
    """The engine itself reads no Secret by name: what the tenant may not read stops its build."""
    await substituting(scene, "default")
    assert_as_tenant(sent, tenant(scene))
    assert forbidden(sent) == []


@LOCKDOWN
async def test_under_lockdown_a_sources_secret_is_read_as_the_tenant(
    scene: Scene, sent: Callable[..., list[AuditLine]], tmp_path: Path
) -> None:
    """Credentials of a source are read by the default account of its namespace, if that may."""
    with GitServer(tmp_path / "git", username="user", password="of the tenant") as server:
        private = Scene(scene.api, scene.namespace, server)
        revision = private.commit({"app/a.yaml": config_map("a", k="v")})
        await scene.apply("Secret", "git", stringData={"username": "user", "password": server.password})
        await private.source(secretRef={"name": "git"})
        begins = (
            f"failed to get secret '{scene.namespace}/git': secrets \"git\" is forbidden: "
            f'User "{tenant(scene)}" cannot get resource "secrets"'
        )
        await scene.failed("GitRepository", "repo", "AuthenticationFailed", begins)
        await scene.event("GitRepository", "repo", "AuthenticationFailed", begins)
        await scene.bind("default", {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]})
        await scene.ready("GitRepository", "repo", revision)
    assert {line.impersonated for line in sent(resource="secrets", verb="get")} == {tenant(scene)}
    assert forbidden(sent) == []


@LOCKDOWN
async def test_under_lockdown_another_namespaces_source_is_refused(scene: Scene) -> None:
    """A reference across namespaces stalls with Flux's words."""
    ref = {"kind": "GitRepository", "name": "repo", "namespace": "default"}
    await scene.kustomization(sourceRef=ref)
    begins = "can't access 'GitRepository/default/repo', cross-namespace references have been blocked"
    await scene.failed("Kustomization", "app", "AccessDenied", begins)
    await scene.event("Kustomization", "app", "AccessDenied", begins)


@BOTH
async def test_the_engine_itself_is_refused_nothing(own: RealCluster, running: Engine) -> None:
    """The rights that `install` gives are enough: over its whole life nothing was forbidden to the engine."""
    lines = own.audit(running.user)
    assert lines
    assert [str(line) for line in lines if line.code == 403 and not line.impersonated] == []
