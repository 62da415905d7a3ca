"""The cases that Flux's kustomize-controller is tested with, manifests unchanged.

Their repository, `https://github.com/stefanprodan/podinfo`, is answered by a local server
from the corpus: the engine reaches it through HTTPS_PROXY and trusts it by SSL_CERT_FILE.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import AnyCluster, engines
from tests.real.engine import Engine
from tests.realcluster.cluster import RealCluster
from tests.realcluster.pods import PodActor
from tests.servers.git import CertificateAuthority, ConnectProxy, Executable, GitRepo, GitServer

PATIENCE = "--timeout=120s"
# What the manifests ask for: tag 6.3.5, semver 6.3.5, semver >=6.3.5, branch master.
TAGS = ("6.3.5", "6.14.1")


@pytest.fixture(scope="module")
def proxy(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ConnectProxy, Path]]:
    """A proxy behind which github.com serves podinfo, and the authority that vouches for it."""
    folder = tmp_path_factory.mktemp("github")
    authority = CertificateAuthority.make(folder / "pki")
    with GitServer(folder / "git", tls=authority.server_tls("github.com")) as server:
        repository = GitRepo.create(server.root, "stefanprodan/podinfo")
        source = corpus / "podinfo"
        files = {
            str(path.relative_to(source)): _content(path)
            for path in sorted(source.rglob("*"))
            if path.is_file() and ".git" not in path.relative_to(source).parts
        }
        repository.commit(files, branch="master", tag=TAGS[0])
        repository.commit({"CHANGED.md": "later\n"}, branch="master", tag=TAGS[1])
        with ConnectProxy({"github.com:443": server.address}) as found:
            yield found, authority.file


def _content(path: Path) -> bytes | Executable:
    raw = path.read_bytes()
    return Executable(raw) if path.suffix == ".sh" else raw


@pytest.fixture(scope="module")
def engine(
    cluster: AnyCluster, proxy: tuple[ConnectProxy, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """An engine that reaches the world through the proxy only, on a cluster whose Pods run."""
    gate, authority = proxy
    environment = {"HTTPS_PROXY": gate.url, "SSL_CERT_FILE": str(authority)}
    with engines(cluster, tmp_path_factory.mktemp("cases"), "cases") as make, PodActor(cluster.api):
        yield make(environment=environment).start()


@pytest.fixture
def cases(corpus: Path) -> Path:
    """The folder of the cases."""
    return corpus / "kustomize-controller" / "config" / "testdata"


def get(cluster: AnyCluster, *args: str) -> dict[str, Any]:
    """Read an object with kubectl."""
    found: dict[str, Any] = json.loads(
        cluster.kubectl("get", *args, "--output=json", "--show-managed-fields")
    )
    return found


def ready(cluster: AnyCluster, namespace: str, *names: str) -> None:
    """Wait until Kustomizations are ready."""
    for name in names:
        cluster.kubectl(
            "wait", f"kustomization/{name}", "--namespace", namespace, "--for=condition=Ready", PATIENCE
        )


def test_overlays(cluster: AnyCluster, engine: Engine, namespace: str, cases: Path) -> None:
    """Two overlays of one repository become two namespaces, and go with their Kustomizations."""
    here = ("--namespace", namespace)
    cluster.kubectl("apply", *here, "-k", str(cases / "overlays"))
    ready(cluster, namespace, "webapp-staging", "webapp-production")
    source = get(cluster, "gitrepository/webapp-releases", *here)
    assert source["status"]["artifact"]["revision"].startswith(f"{TAGS[1]}@sha1:")
    for place in ("staging", "production"):
        frontend = get(cluster, "deployment/frontend", "--namespace", place)
        assert frontend["metadata"]["labels"]["app.kubernetes.io/environment"] == place
        assert frontend["status"]["readyReplicas"] >= 1
    cluster.kubectl("delete", *here, "-k", str(cases / "overlays"), PATIENCE)
    for place in ("staging", "production"):
        cluster.kubectl("wait", f"namespace/{place}", "--for=delete", PATIENCE)


def test_dependencies(cluster: AnyCluster, engine: Engine, namespace: str, cases: Path) -> None:
    """A dependent is applied only when what it depends on is ready."""
    here = ("--namespace", namespace)
    cluster.kubectl("apply", *here, "-k", str(cases / "dependencies"))
    ready(cluster, namespace, "common", "backend", "frontend")
    for before, after in (("common", "backend"), ("backend", "frontend")):
        conditions = get(cluster, f"kustomization/{before}", *here)["status"]["conditions"]
        since = next(item["lastTransitionTime"] for item in conditions if item["type"] == "Ready")
        made = get(cluster, f"deployment/{after}", "--namespace", "webapp")["metadata"]["creationTimestamp"]
        assert made >= since, f"{after} was made before {before} was ready"
    cluster.kubectl("delete", *here, "-k", str(cases / "dependencies"), PATIENCE)
    cluster.kubectl("wait", "namespace/webapp", "--for=delete", PATIENCE)


def test_impersonation(own_cluster: RealCluster, engine: Engine, cases: Path) -> None:
    """Everything is applied, and on deletion pruned, as the tenant's service account."""
    here = ("--namespace", "impersonation")
    mark = own_cluster.mark()
    own_cluster.kubectl("apply", "-f", str(cases / "impersonation"))
    ready(own_cluster, "impersonation", "podinfo")
    scaler = get(own_cluster, "horizontalpodautoscaler/podinfo", *here)
    assert scaler["spec"]["minReplicas"] == 1
    own_cluster.kubectl("delete", "kustomization/podinfo", *here, PATIENCE)
    assert own_cluster.kubectl("get", "deployments,services,hpa", *here, "-o", "name") == ""
    workload = ("deployments", "services", "horizontalpodautoscalers")
    lines = own_cluster.audit(engine.user, mark)
    writes = [line for line in lines if line.resource in workload and line.namespace == "impersonation"]
    writes = [line for line in writes if line.verb not in ("get", "list", "watch")]
    assert writes
    assert {line.impersonated for line in writes} == {"system:serviceaccount:impersonation:gotk-reconciler"}
    own_cluster.kubectl("delete", "-f", str(cases / "impersonation"), "--ignore-not-found", PATIENCE)


def test_managed_fields(cluster: AnyCluster, engine: Engine, corpus: Path, cases: Path) -> None:
    """Fields that kubectl applied, on the client's side and on the server's, end up owned by the engine."""
    name = "managed-fields"
    here = ("--namespace", name)
    cluster.kubectl("create", "namespace", name)
    manifests = cluster.kubectl("kustomize", str(corpus / "podinfo" / "kustomize"))
    cluster.kubectl("apply", *here, "-f", "-", input=manifests)
    cluster.kubectl("apply", *here, "-f", str(cases / "managed-fields"))
    ready(cluster, name, "podinfo")
    assert not _kubectl_owners(cluster, name)
    cluster.kubectl("apply", *here, "--server-side", "--force-conflicts", "-f", "-", input=manifests)
    annotate = ("annotate", "kustomization/podinfo", *here, "--overwrite")
    cluster.kubectl(*annotate, "reconcile.fluxcd.io/requestedAt=again")
    handled = "jsonpath={.status.lastHandledReconcileAt}=again"
    cluster.kubectl("wait", "kustomization/podinfo", *here, f"--for={handled}", PATIENCE)
    ready(cluster, name, "podinfo")
    assert not _kubectl_owners(cluster, name)
    cluster.kubectl("delete", *here, "-f", str(cases / "managed-fields"), PATIENCE)
    cluster.kubectl("delete", "namespace", name, PATIENCE)


def _kubectl_owners(cluster: AnyCluster, namespace: str) -> list[str]:
    deployment = get(cluster, "deployment/podinfo", "--namespace", namespace)
    managers = [entry["manager"] for entry in deployment["metadata"]["managedFields"]]
    assert "kustomize-controller" in managers
    return [manager for manager in managers if manager.startswith("kubectl")]


def test_status_defaults(cluster: AnyCluster, engine: Engine, namespace: str, cases: Path) -> None:
    """A Kustomization without a spec is defined as unobserved, harms no engine, and can be deleted."""
    engine.stop()
    manifest = str(cases / "status-defaults" / "empty-kustomization.yaml")
    cluster.kubectl("apply", "--namespace", namespace, "-f", manifest)
    found = get(cluster, "kustomization/status-defaults", "--namespace", namespace)
    assert found["status"] == {"observedGeneration": -1}
    engine.start()
    ready_condition = "jsonpath={.status.conditions[?(@.type=='Ready')].status}=False"
    what = ("kustomization/status-defaults", "--namespace", namespace)
    cluster.kubectl("wait", *what, f"--for={ready_condition}", PATIENCE)
    assert engine.get("/readyz")[0] == 200
    cluster.kubectl("delete", *what, PATIENCE)
