"""check, install and uninstall against a real API server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from tests.real.cli_tools import Cli, apply, kustomization, live


def lease(cli: Cli, name: str, holder: str, renewed: datetime) -> dict[str, Any]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": f"{name}-leader-election", "namespace": cli.namespace},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": 35,
            "renewTime": renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }


def test_check_finds_what_is_missing(cli: Cli) -> None:
    """Each line of `check` is a finding with a hint, and a failed one gives exit code 1."""
    apply(
        cli,
        lease(cli, "source-controller", "source-controller-7d4f_1", datetime.now(UTC)),
        lease(cli, "kustomize-controller", "someone_2", datetime(2026, 1, 1, tzinfo=UTC)),
    )
    done = cli("check", "-o", "json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["passed"] is False
    found = {(item["check"], item["level"]): item for item in answer["findings"]}
    assert found["kubernetes", "ok"]["message"].startswith("Kubernetes 1.")
    assert found["crds", "ok"]["message"] == "kustomizations.kustomize.toolkit.fluxcd.io/v1"
    assert found["engine", "failure"]["hint"].startswith("install it with `gitwright install")
    warnings = [item["message"] for item in answer["findings"] if item["level"] == "warning"]
    assert "Flux's controller acts, gitwright waits" in warnings[0]
    assert "last held by someone_2, not renewed for" in warnings[1]


def test_check_before_an_installation(cli: Cli) -> None:
    """`check --pre` says what Flux's says, on standard error."""
    done = cli("check", "--pre")
    assert (done.returncode, done.stdout) == (0, "")
    first, second, third = done.stderr.splitlines()
    assert first == "► checking prerequisites"
    assert second.startswith("✔ Kubernetes 1.")
    assert second.endswith(" >=1.33.0-0")
    assert third == "✔ prerequisites checks passed"


@pytest.fixture
def installed(cli: Cli) -> Iterator[subprocess.CompletedProcess[str]]:
    yield cli("install", "--image", "example.com/gitwright:v1", "--no-wait")
    cli("uninstall", "--yes", "--keep-namespace")


def test_install_is_repeatable_and_keeps_its_keys(
    cli: Cli, installed: subprocess.CompletedProcess[str]
) -> None:
    """A second installation changes nothing, keys included, and what belongs to others is left alone."""
    assert installed.returncode == 0, installed.stderr
    assert f"✔ Deployment/{cli.namespace}/gitwright created" in installed.stderr
    assert "✔ CustomResourceDefinition/kustomizations.kustomize.toolkit.fluxcd.io left as it is" in (
        installed.stderr
    )
    keys = live(cli, "secret", "gitwright-keys")["data"]
    again = cli("install", "--image", "example.com/gitwright:v1", "--no-wait")
    assert again.returncode == 0, again.stderr
    assert " configured" not in again.stderr
    assert " created" not in again.stderr
    assert live(cli, "secret", "gitwright-keys")["data"] == keys
    versions = json.loads(cli("version", "-o", "json").stdout)
    assert versions["engine/gitwright"] == "v1"


def test_install_waits_in_vain_for_an_image_that_does_not_exist(cli: Cli) -> None:
    """An engine that does not become ready in time gives exit code 5 and is named."""
    try:
        done = cli("install", "--image", "example.com/gitwright:v1", "--timeout", "5s")
        assert done.returncode == 5
        assert f"Deployment/{cli.namespace}/gitwright" in done.stderr
    finally:
        cli("uninstall", "--yes", "--keep-namespace")


def test_export_prints_what_install_would_apply(cli: Cli) -> None:
    """--export asks no cluster, is valid to the API server, and differs between runs by nothing but keys."""
    image = ["--image", "example.com/gitwright:v1"]
    first, second = (cli("install", *image, "--export", "--lockdown") for _ in range(2))
    assert "holds keys made at random" in first.stderr
    objects, others = (list(yaml.safe_load_all(done.stdout)) for done in (first, second))
    for one, other in zip(objects, others, strict=True):
        assert one["kind"] == "Secret" or one == other
    cli.cluster.kubectl(
        "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-", input=first.stdout
    )


def test_uninstall_takes_the_engine_and_leaves_its_work(
    cli: Cli, installed: subprocess.CompletedProcess[str]
) -> None:
    """Components and finalizers go, in that order; objects, definitions and a foreign namespace stay."""
    obj = kustomization(cli, "app")
    obj["metadata"]["finalizers"] = ["finalizers.fluxcd.io", "example.com/other"]
    apply(cli, obj)
    asked = cli("uninstall")
    assert asked.returncode == 2
    assert "confirm with --yes" in asked.stderr
    tried = cli("uninstall", "--dry-run")
    assert tried.returncode == 0, tried.stderr
    assert live(cli, "ks", "app")["metadata"]["finalizers"] == ["finalizers.fluxcd.io", "example.com/other"]
    assert f"✔ Deployment/{cli.namespace}/gitwright deleted (dry run)" in tried.stderr
    done = cli("uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert live(cli, "ks", "app")["metadata"]["finalizers"] == ["example.com/other"]
    lines = done.stderr.splitlines()
    gone = lines.index(f"✔ Deployment/{cli.namespace}/gitwright deleted")
    freed = lines.index(f"✔ Kustomization/{cli.namespace}/app finalizers deleted")
    assert gone < freed
    assert f"Namespace/{cli.namespace} was not made by gitwright: it stays" in lines
    left = cli.cluster.kubectl(
        "get",
        "deploy,svc,sa,secret,role,rolebinding,networkpolicy,clusterrole,clusterrolebinding",
        "-n",
        cli.namespace,
        "-l",
        "app.kubernetes.io/part-of=gitwright",
        "-o",
        "name",
    )
    assert left.strip() == ""
    patch = '{"metadata":{"finalizers":null}}'
    cli.cluster.kubectl("patch", "ks", "app", "-n", cli.namespace, "--type=merge", "-p", patch)
