"""What `check`, `install` and `uninstall` make of what a cluster says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gitwright.api import crds, kinds
from gitwright.cli import check, install, uninstall
from gitwright.cli.check import Holder
from gitwright.cli.version import images, tag_of
from gitwright.core.errors import Stalled
from gitwright.core.objects import JSON

NOW = 1_700_000_000.0
LEASE = "kustomize-controller-leader-election"


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("v1.33.0", "ok"),
        ("v1.37.2", "ok"),
        ("v1.34.1-gke.100", "ok"),
        ("v1.32.9", "failure"),
        ("", "failure"),
        ("unknown", "failure"),
    ],
)
def test_kubernetes_must_be_as_new_as_flux_asks(version: str, level: str) -> None:
    """The least version is that of Flux, vendors' suffixes allowed."""
    assert check.kubernetes(version).level == level


def definition(**changes: Any) -> JSON:
    obj = crds.crd(kinds.KUSTOMIZATION)
    obj["status"] = {"conditions": [{"type": "Established", "status": "True"}], "storedVersions": ["v1"]}
    return {**obj, **changes}


def test_a_definition_is_judged_by_its_versions() -> None:
    """A definition must be there, serve our version and be established; old stored versions are told."""
    kind = kinds.KUSTOMIZATION
    assert check.crd(kind, definition()).level == "ok"
    assert "not found" in check.crd(kind, None).message
    served = definition(spec={"versions": [{"name": "v1beta2", "served": True}]})
    assert "does not serve version v1 (served: v1beta2)" in check.crd(kind, served).message
    assert "not established" in check.crd(kind, definition(status={})).message
    status = {**definition()["status"], "storedVersions": ["v1beta2", "v1"]}
    stored = check.crd(kind, definition(status=status))
    assert (stored.level, "stored as v1beta2" in stored.message) == ("warning", True)


def held(by: str, seconds_ago: float) -> JSON:
    renewed = datetime.fromtimestamp(NOW - seconds_ago, UTC).isoformat().replace("+00:00", "Z")
    return {"spec": {"holderIdentity": by, "leaseDurationSeconds": 35, "renewTime": renewed}}


@pytest.mark.parametrize(
    ("obj", "level", "live", "words"),
    [
        (None, "warning", False, "held by nobody"),
        ({"spec": {"holderIdentity": ""}}, "warning", False, "held by nobody"),
        (held("gitwright-1_x", 3), "ok", True, "held by gitwright-1_x, renewed 3s ago"),
        (held("gitwright-1_x", 90), "warning", False, "last held by gitwright-1_x, not renewed for 90s"),
        (held("kustomize-controller-7f_x", 3), "warning", True, "Flux's controller acts, gitwright waits"),
    ],
)
def test_a_lease_tells_who_acts(obj: JSON | None, level: str, live: bool, words: str) -> None:
    """A lease is held by somebody who renews it, by Flux's controller, or by nobody any more."""
    holder, finding = check.lease(LEASE, obj, NOW)
    assert (finding.level, holder.live) == (level, live)
    assert words in finding.message


def test_an_engine_may_run_outside_the_cluster() -> None:
    """Without a Deployment it counts who else renews the leases; Flux's controllers are not our engine."""
    outside = [Holder(LEASE, "laptop_1", True)]
    assert check.missing("flux-system", outside).level == "warning"
    for nobody in ([], [Holder(LEASE, "laptop_1", False)], [Holder(LEASE, "kustomize-controller-1_x", True)]):
        assert check.missing("flux-system", nobody).level == "failure"


def test_an_engine_is_well_when_its_deployment_is() -> None:
    """The Deployment's own state decides, and its images are named."""
    obj: JSON = {
        "metadata": {"name": "gitwright", "namespace": "flux-system", "generation": 1},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"image": "example.com/g:v1"}]}}},
        "status": {"observedGeneration": 1},
    }
    (bad,) = check.engine(obj)
    assert (bad.level, "describe deployment gitwright" in bad.hint) == ("failure", True)
    available = {"type": "Available", "status": "True"}
    counts = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    obj["status"] = {"observedGeneration": 1, **counts, "conditions": [available]}
    (good,) = check.engine(obj)
    assert (good.level, good.message) == ("ok", "gitwright: deployment ready (example.com/g:v1)")


def labelled(kind: str, part_of: str, **more: Any) -> JSON:
    metadata: JSON = {"name": "x"}
    if part_of:
        metadata["labels"] = {"app.kubernetes.io/part-of": part_of}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **more}


def test_install_leaves_to_others_what_is_theirs() -> None:
    """A namespace and definitions of others stay; any other object of theirs stops the installation."""
    ours = crds.crd(kinds.KUSTOMIZATION)
    theirs = {**ours, "metadata": {**ours["metadata"], "labels": {"app.kubernetes.io/part-of": "flux"}}}
    assert install.kept(ours, theirs) == "part of flux"
    assert install.kept(labelled("Namespace", ""), labelled("Namespace", "")) == "it was there before"
    assert install.kept(labelled("Namespace", ""), labelled("Namespace", "gitwright")) == ""
    assert install.kept(labelled("Service", ""), labelled("Service", "gitwright")) == ""
    with pytest.raises(Stalled, match="Service/x is part of flux"):
        install.kept(labelled("Service", ""), labelled("Service", "flux"))


def test_install_does_not_change_an_old_definition_of_others() -> None:
    """A definition of others that lacks our version stops the installation, and says which is lacking."""
    ours = crds.crd(kinds.KUSTOMIZATION)
    old = {**ours, "spec": {"versions": [{"name": "v1beta2", "served": True}]}}
    with pytest.raises(Stalled, match="does not serve v1"):
        install.kept(ours, old)


def test_install_keeps_keys_in_use_and_adds_missing_ones() -> None:
    """Keys that exist win over new ones; a key that an older installation lacks is added."""
    wanted = labelled("Secret", "", data={"artifact-key": "bmV3", "metrics-token": "bmV3"})
    live = labelled("Secret", "", data={"artifact-key": "b2xk"})
    assert install.with_keys_of(wanted, live)["data"] == {"artifact-key": "b2xk", "metrics-token": "bmV3"}


def test_uninstall_covers_every_kind_that_install_makes() -> None:
    """Every kind of an installation is deleted but namespace and definitions, rights after what uses them."""
    found = [(gvk.kind, namespaced) for gvk, namespaced in uninstall.component_kinds()]
    assert {("Service", True), ("Secret", True), ("ClusterRole", False), ("Role", True)} <= set(found)
    assert not {"Namespace", "CustomResourceDefinition"} & {kind for kind, _ in found}
    kinds_only = [kind for kind, _ in found]
    assert kinds_only.index("Deployment") < kinds_only.index("ServiceAccount")
    assert kinds_only.index("RoleBinding") < kinds_only.index("Role")


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("example.com:5000/team/gitwright:v1.2", "v1.2"),
        ("example.com:5000/gitwright", "latest"),
        ("gitwright:v1@sha256:abc", "v1"),
        ("gitwright@sha256:abc", "sha256:abc"),
    ],
)
def test_the_version_of_an_engine_is_its_images_tag(image: str, tag: str) -> None:
    """The tag counts, else the digest; a registry's port is no tag."""
    assert tag_of(image) == tag
    container = {"name": "gitwright", "image": image}
    assert images({"spec": {"template": {"spec": {"containers": [container]}}}}) == {"engine/gitwright": tag}
