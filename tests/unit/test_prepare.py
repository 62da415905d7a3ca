"""From rendered manifests to what is sent: owner, common metadata, scope, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from gitwright.apply.live import OWNER_NAME, OWNER_NAMESPACE, Owner
from gitwright.apply.prepare import CommonMetadata, declared_scopes, prepare
from gitwright.core.errors import Stalled, Transient
from gitwright.core.objects import GVK, JSON, Manifest

OWNER = Owner("apps", "web")
NOTHING = CommonMetadata()


def manifest(kind: str = "ConfigMap", version: str = "v1", **more: Any) -> Manifest:
    metadata = {"name": "a", "namespace": "ns", **more.pop("metadata", {})}
    return Manifest.of({"apiVersion": version, "kind": kind, "metadata": metadata, **more})


def one(given: Manifest, common: CommonMetadata = NOTHING, scoped: frozenset[GVK] = frozenset()) -> JSON:
    (ready,) = prepare([given], OWNER, common, scoped)
    return ready.load()


def test_owner_labels_are_put_on_every_object() -> None:
    """Both labels beside those of the manifest, which is not changed itself."""
    given = manifest(metadata={"labels": {"app": "a"}})
    before = given.body
    labels = one(given)["metadata"]["labels"]
    assert labels == {"app": "a", OWNER_NAME: "web", OWNER_NAMESPACE: "apps"}
    assert given.body == before


def test_common_metadata_wins_over_the_files() -> None:
    """Labels and annotations of the spec replace those of the same name, on the metadata alone."""
    given = manifest(metadata={"labels": {"x": "1"}, "annotations": {"y": "1"}})
    found = one(given, CommonMetadata({"x": "2"}, {"y": "2", "z": "3"}))["metadata"]
    assert found["labels"]["x"] == "2"
    assert found["annotations"] == {"y": "2", "z": "3"}


def test_a_namespace_of_a_cluster_scoped_object_is_dropped() -> None:
    """Its identity has none, whatever kustomize has put there."""
    gvk = GVK("x.example.com", "v1", "Mark")
    given = manifest("Mark", "x.example.com/v1")
    assert "namespace" not in one(given, scoped=frozenset({gvk}))["metadata"]
    assert one(given)["metadata"]["namespace"] == "ns"


def test_definitions_say_the_scope_of_their_kinds() -> None:
    """Every version of a definition among the manifests counts; what is damaged is passed over."""
    spec = {
        "group": "x.example.com",
        "scope": "Cluster",
        "names": {"kind": "Mark"},
        "versions": [{"name": "v1"}, {"name": "v2"}],
    }
    kind, version = "CustomResourceDefinition", "apiextensions.k8s.io/v1"
    damaged: list[Any] = [None, 1, [], {"versions": 3}, {"versions": [1, {}], "names": []}]
    manifests = [
        manifest(kind, version, spec=spec),
        manifest(kind, version, spec={**spec, "names": {"kind": "Thing"}, "scope": "Namespaced"}),
        manifest(),
        *(manifest(kind, version, spec=value) for value in damaged),
    ]
    found = {gvk: namespaced for gvk, namespaced in declared_scopes(manifests).items() if gvk.kind}
    assert found == {
        GVK("x.example.com", "v1", "Mark"): False,
        GVK("x.example.com", "v2", "Mark"): False,
        GVK("x.example.com", "v1", "Thing"): True,
        GVK("x.example.com", "v2", "Thing"): True,
    }


@pytest.mark.parametrize("place", ["labels", "annotations"])
@pytest.mark.parametrize("value", [1, "x", ["a"], True])
def test_metadata_that_is_no_map_is_refused(place: str, value: object) -> None:
    """The object and the field are named; nothing unforeseen is raised."""
    with pytest.raises(Stalled) as caught:
        one(manifest(metadata={place: value}))
    assert caught.value.reason == "BuildFailed"
    assert caught.value.place == f"metadata.{place}"


def test_an_object_defined_twice_must_be_the_same() -> None:
    """Two equal definitions are one; two different ones are refused by name."""
    same = manifest(data={"k": "v"})
    assert len(prepare([same, same], OWNER, NOTHING, frozenset())) == 1
    with pytest.raises(Stalled, match="ConfigMap/ns/a is defined twice"):
        prepare([same, manifest(data={"k": "w"})], OWNER, NOTHING, frozenset())


def test_an_encrypted_secret_is_refused_unless_it_opts_out() -> None:
    """Flux's message; `decrypt: disabled` lets it pass, in any letter case."""
    with pytest.raises(Transient, match="Secret/ns/a is SOPS encrypted"):
        one(manifest("Secret", sops={"mac": "x"}))
    opted = {"annotations": {"kustomize.toolkit.fluxcd.io/decrypt": "Disabled"}}
    assert one(manifest("Secret", sops={"mac": "x"}, metadata=opted))["kind"] == "Secret"
