"""What an engine sees of what it applied: kinds it may not watch, namespaces it does not run.

Each test has an engine of its own, and no other engine runs beside it.
"""

from __future__ import annotations

from tests.real.conftest import AnyCluster, EngineFactory
from tests.real.scene import Scene, config_map
from tests.realcluster.api import Api
from tests.servers.git import GitServer

FLAGS = {
    "time-limit-floor": "5s",
    "requeue-dependency": "2s",
    "min-retry-delay": "200ms",
    "watch-all-namespaces": "false",
    "leader-elect": "false",
}


async def test_a_kind_that_may_not_be_watched_is_looked_at_once_per_pass(
    api: Api, namespace: str, git_server: GitServer, engine: EngineFactory, cluster: AnyCluster
) -> None:
    """Where the engine may list nothing of a kind, each pass reads it as the tenant, and repairs it."""
    scene = Scene(api, namespace, git_server)
    user = cluster.fresh_user()
    toolkit = ["source.toolkit.fluxcd.io", "kustomize.toolkit.fluxcd.io"]
    rules = [
        {"apiGroups": toolkit, "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate", "list"]},
    ]
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules}
    await api.apply(role, manager="user")
    scene.commit({"app/a.yaml": config_map("a", k="v")})
    await scene.apply("ServiceAccount", "tenant")
    await scene.bind("tenant", {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]})
    with engine(flags=FLAGS, namespace=namespace, user=user, rights=user).start():
        await scene.source()
        await scene.kustomization(serviceAccountName="tenant", wait=True)
        await scene.ready("Kustomization", "app")
        edit = {"data": {"k": "x"}}
        await scene.api.patch("v1", "ConfigMap", "a", namespace, edit, manager="other")
        await scene.nudge("Kustomization", "app")
        await scene.has("ConfigMap", "a", k="v")
        await scene.delete("ConfigMap", "a")
        await scene.nudge("Kustomization", "app")
        await scene.has("ConfigMap", "a", k="v")
        await scene.delete("Kustomization", "app")
        await scene.gone("Kustomization", "app")
        await scene.gone("ConfigMap", "a")
        await scene.delete("GitRepository", "repo")
        await scene.gone("GitRepository", "repo")


async def test_an_engine_of_one_namespace_sees_what_it_applied_elsewhere(
    api: Api, namespace: str, git_server: GitServer, engine: EngineFactory, cluster: AnyCluster
) -> None:
    """Only Kustomizations of its own namespace run; drift is seen wherever they write to."""
    scene = Scene(api, namespace, git_server)
    other = f"{namespace}-b"
    cluster.kubectl("create", "namespace", other)
    try:
        scene.commit({"app/a.yaml": config_map("a", k="v")})
        with engine(flags=FLAGS, namespace=namespace).start():
            await scene.source()
            await scene.kustomization(targetNamespace=other)
            await scene.ready("Kustomization", "app")
            await scene.api.patch("v1", "ConfigMap", "a", other, {"data": {"k": "x"}}, manager="other")
            await scene.until(
                "ConfigMap", "a", lambda obj: (obj or {})["data"]["k"] == "v", "repaired", namespace=other
            )
            await scene.delete("Kustomization", "app")
            await scene.gone("Kustomization", "app")
            await scene.delete("GitRepository", "repo")
            await scene.gone("GitRepository", "repo")
    finally:
        cluster.kubectl("delete", "namespace", other, "--wait=false")
