"""The judge itself: the control plane starts, breaks and comes back, counts requests, and runs Pods."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.real.conftest import AnyCluster
from tests.real.player import Player, PlayError, Recording
from tests.real.scrub import wait_gone
from tests.realcluster.api import Api, ApiFailure
from tests.realcluster.cluster import KubectlError, RealCluster
from tests.realcluster.pods import PodActor
from tests.servers.git import GitServer


def config_map(name: str, namespace: str, **data: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def test_kubectl_speaks_to_a_server_of_a_known_version(cluster: AnyCluster) -> None:
    """The server says its version, and Flux's kinds are defined."""
    version = json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"]
    assert version["major"] == "1"
    assert "gitrepositories" in cluster.kubectl("api-resources", "--api-group=source.toolkit.fluxcd.io")


def test_a_fresh_user_has_no_rights(own_cluster: RealCluster) -> None:
    """A user that nobody had before may read nothing, and its requests are counted as its own."""
    user = own_cluster.fresh_user()
    with pytest.raises(KubectlError, match=f'User "{user}" cannot list resource "configmaps"'):
        own_cluster.kubectl("get", "configmaps", user=user)
    refused = [line for line in own_cluster.audit(user) if line.resource == "configmaps"]
    assert [(line.verb, line.code) for line in refused] == [("list", 403)]


async def test_the_audit_log_tells_what_a_request_was(own_cluster: RealCluster, namespace: str) -> None:
    """Verb, resource, dry run and impersonation of each request are known as soon as it is answered."""
    mark = own_cluster.mark()
    async with own_cluster.api("user") as api:
        body = config_map("a", namespace, k="v")
        path = await api.path("v1", "ConfigMap", namespace)
        await api.request("POST", path, params={"dryRun": "All"}, body=body)
        await api.apply(body, manager="user")
        watch = api.watch("v1", "ConfigMap", namespace)
        await anext(watch)
        lines = [line for line in own_cluster.audit("user", mark) if line.resource == "configmaps"]
        await watch.aclose()  # type: ignore[attr-defined]
    seen = [(line.verb, line.namespace, line.dry_run, line.writes) for line in lines]
    assert seen == [
        ("create", namespace, True, False),
        ("patch", namespace, False, True),
        ("watch", namespace, False, False),
    ]


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_the_api_server_comes_back(own_cluster: RealCluster, namespace: str, how: str) -> None:
    """After a stop, or a kill, the API server serves what it served before at the same address."""
    own_cluster.kubectl("create", "configmap", "kept", "--namespace", namespace)
    server = own_cluster.server
    if how == "kill":
        own_cluster.kill("apiserver")
        with pytest.raises(KubectlError, match="refused"):
            own_cluster.kubectl("get", "configmaps", "--namespace", namespace)
        own_cluster.start_apiserver()
    else:
        own_cluster.restart_apiserver()
    assert own_cluster.server == server
    assert "kept" in own_cluster.kubectl("get", "configmaps", "--namespace", namespace, "-o", "name")


async def test_a_compacted_revision_is_gone(own_cluster: RealCluster, namespace: str) -> None:
    """A watch that goes on from a revision that was compacted is told that it expired (410)."""
    async with own_cluster.api() as api:
        for count in range(3):
            made = await api.apply(config_map("a", namespace, k=str(count)), manager="user")
            if count == 0:
                first = made["metadata"]["resourceVersion"]
        own_cluster.compact_etcd()
        own_cluster.restart_apiserver()  # else its own cache still knows
        assert await _expired(api, namespace, first)


async def _expired(api: Api, namespace: str, version: str) -> bool:
    try:
        async for event in api.watch("v1", "ConfigMap", namespace, version, seconds=5):
            return bool(event["type"] == "ERROR" and event["object"]["code"] == 410)
    except ApiFailure as failure:
        return failure.status == 410
    return False


async def test_pods_run_or_fail_as_they_are_asked(
    cluster: AnyCluster, namespace: str, pods: PodActor, api: Api
) -> None:
    """A Deployment becomes available on the pretend node, and a Pod fails as its annotation says."""
    for name, fail in (("fine", ""), ("image", "ImagePullBackOff"), ("crash", "CrashLoopBackOff")):
        labels = {"app": name}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels, "annotations": {"gitwright.dev/test-fail": fail}},
                    "spec": {"containers": [{"name": "main", "image": "example.com/main:1"}]},
                },
            },
        }
        await api.apply(deployment, manager="user")
    where = ("--namespace", namespace)
    kubectl = asyncio.to_thread
    await kubectl(cluster.kubectl, "rollout", "status", "deployment/fine", *where, "--timeout=30s")
    for name, reason in (("image", "ImagePullBackOff"), ("crash", "CrashLoopBackOff")):
        path = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}"
        for _ in range(50):
            shown = await kubectl(cluster.kubectl, "get", "pods", *where, "-l", f"app={name}", "-o", path)
            if shown == reason:
                break
            await asyncio.sleep(0.2)
        assert shown == reason


async def test_a_scenario_that_does_not_come_true_fails_and_leaves_nothing(
    cluster: AnyCluster, api: Api, git_server: GitServer
) -> None:
    """Without an engine a recording stops at its first wait, says which, and is cleaned up."""
    steps = (
        {"push": {"files": {"a.yaml": "kind: {ns}\n"}}},
        {
            "apply": {
                "apiVersion": "source.toolkit.fluxcd.io/v1",
                "kind": "GitRepository",
                "metadata": {"name": "repo"},
                "spec": {"interval": "10m", "url": "{url:repo}"},
            }
        },
        {"snapshot": "asleep"},
        {"wait": {"ref": "GitRepository/repo", "until": "ready", "timeout": 0.5}},
    )
    player = Player(Recording("no-engine", steps, {}), api, git_server, slowness=0.1)
    with pytest.raises(PlayError, match="step 4 of no-engine: did not happen within"):
        await player.play()
    assert player.normaliser().text(git_server.url("no-engine-repo")) == "http://git/no-engine-repo.git"
    assert await api.list("source.toolkit.fluxcd.io/v1", "GitRepository", "s-no-engine") == []
    await wait_gone(api, "v1", "Namespace", "s-no-engine")
