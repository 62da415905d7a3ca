"""What a Kustomization refers to, and who looks again when that changes."""

from __future__ import annotations

from typing import Any

import pytest

from gitwright.api.kinds import decode
from gitwright.api.kustomize import Kustomization, KustomizationSpec
from gitwright.controllers.references import (
    SourceRef,
    check_dependencies,
    find_cycle,
    no_artifact,
    resolve_source,
    source_ref,
    will_be_fetched,
)
from gitwright.controllers.wiring import (
    _artifact,
    _asked,
    _dependencies_of,
    _judges,
    _readiness,
    _source_of,
)
from gitwright.core.errors import Denied, Stalled, Transient, Waiting
from gitwright.core.objects import JSON

REVISION = "main@sha1:1"
REF = SourceRef("GitRepository", "ns", "repo")


def kustomization(name: str, *needs: str | JSON, ready: str = "True", **status: Any) -> JSON:
    depends = [need if isinstance(need, dict) else _reference(need) for need in needs]
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": name, "namespace": "ns", "generation": 1, "uid": name},
        "spec": {
            "interval": "1m",
            "prune": True,
            "sourceRef": {"kind": "GitRepository", "name": "repo"},
            "dependsOn": depends,
        },
        "status": {
            "observedGeneration": 1,
            "lastAppliedRevision": REVISION,
            "conditions": [
                {
                    "type": "Ready",
                    "status": ready,
                    "reason": "R",
                    "message": f"{name} says",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ],
            **status,
        },
    }


def _reference(name: str) -> JSON:
    namespace, slash, rest = name.partition("/")
    return {"name": rest, "namespace": namespace} if slash else {"name": name}


class Known:
    """Kustomizations by name, as the watch gives them."""

    def __init__(self, *objects: JSON) -> None:
        self.objects = {(obj["metadata"]["namespace"], obj["metadata"]["name"]): obj for obj in objects}

    def __call__(self, namespace: str, name: str) -> JSON | None:
        return self.objects.get((namespace, name))


def spec_of(obj: JSON) -> KustomizationSpec:
    typed: Kustomization = decode(Kustomization, obj)
    return typed.spec


def check(obj: JSON, *others: JSON) -> None:
    check_dependencies(obj, spec_of(obj), REF, REVISION, Known(obj, *others))


def refused(obj: JSON, *others: JSON) -> Waiting:
    with pytest.raises(Waiting) as caught:
        check(obj, *others)
    assert caught.value.reason == "DependencyNotReady"
    return caught.value


def test_a_ready_dependency_of_the_same_revision_is_enough() -> None:
    """Ready, observed, and at the revision that is about to be applied."""
    check(kustomization("b", "a"), kustomization("a"))
    check(kustomization("b", "ns/a"), kustomization("a"))


@pytest.mark.parametrize(
    ("dependency", "problem"),
    [
        (kustomization("a", ready="False"), "is not ready"),
        (kustomization("a", ready="Unknown"), "is not ready"),
        (kustomization("a", observedGeneration=0), "is not ready"),
        (kustomization("a", conditions=[]), "is not ready"),
        (kustomization("a", lastAppliedRevision="main@sha1:0"), "revision is not up to date"),
    ],
)
def test_a_dependency_that_is_not_ready_is_waited_for(dependency: JSON, problem: str) -> None:
    """The text is Flux's, and says of whom."""
    assert refused(kustomization("b", "a"), dependency).message == f"dependency 'ns/a' {problem}"


def test_the_revision_of_a_dependency_with_another_source_does_not_matter() -> None:
    """Only Kustomizations of one source move together."""
    other = kustomization("a", lastAppliedRevision="main@sha1:0")
    other["spec"]["sourceRef"]["name"] = "else"
    check(kustomization("b", "a"), other)


def test_a_missing_dependency_is_named_as_flux_does() -> None:
    """Flux's text, with the API server's inside."""
    assert refused(kustomization("b", "a")).message == (
        "dependency 'ns/a' not found: kustomizations.kustomize.toolkit.fluxcd.io \"a\" not found"
    )


def test_what_a_dependency_says_of_itself_is_shown() -> None:
    """The reason why it is not ready saves a look at it."""
    assert "ns/a says: a says" in str(refused(kustomization("b", "a"), kustomization("a", ready="False")))


def test_a_cycle_is_named() -> None:
    """Of a cycle all names are given, in order, beginning and ending with this one."""
    a, b, c = (
        kustomization(name, need, ready="False") for name, need in (("a", "b"), ("b", "c"), ("c", "a"))
    )
    error = refused(a, b, c)
    assert error.detail == "the dependencies form a cycle: ns/a -> ns/b -> ns/c -> ns/a"
    assert find_cycle(kustomization("x", "x"), Known()) == ["ns/x", "ns/x"]


def test_a_cycle_that_does_not_lead_back_is_none_of_ours() -> None:
    """Who depends on a cycle is not on it; the search ends all the same."""
    a, b, c = kustomization("a", "b"), kustomization("b", "c"), kustomization("c", "b")
    assert find_cycle(a, Known(a, b, c)) == []
    assert find_cycle(b, Known(a, b, c)) == ["ns/b", "ns/c", "ns/b"]


def test_a_long_chain_is_searched_once() -> None:
    """Every Kustomization is visited once, however many ways lead to it."""
    size = 60
    chain = [kustomization(f"k{i}", *(f"k{j}" for j in range(i + 1, size))) for i in range(size)]
    assert find_cycle(chain[0], Known(*chain)) == []


def test_an_expression_decides_instead_of_the_conditions() -> None:
    """`readyExpr` alone says when a dependency is ready."""
    need = {"name": "a", "readyExpr": "dep.status.lastAppliedRevision == 'main@sha1:0'"}
    obj = kustomization("b", need)
    check(obj, kustomization("a", ready="False", lastAppliedRevision="main@sha1:0"))
    assert refused(obj, kustomization("a")).message == (
        "dependency 'ns/a' is not ready according to readyExpr eval"
    )
    with pytest.raises(Stalled) as caught:
        check(kustomization("b", {"name": "a", "readyExpr": "dep.("}), kustomization("a"))
    assert caught.value.reason == "InvalidCELExpression"


def test_a_source_of_another_namespace_needs_permission() -> None:
    """Blocked by policy it is AccessDenied; allowed or at home it is found; missing it is waited for."""
    source = {"kind": "GitRepository", "metadata": {"name": "repo", "namespace": "ns"}}
    find = Known(source)
    obj = kustomization("a")
    assert source_ref(spec_of(obj), "ns") == REF
    assert resolve_source(REF, "ns", find, cross_namespace=False) is source
    assert resolve_source(REF, "other", find, cross_namespace=True) is source
    with pytest.raises(Denied) as caught:
        resolve_source(REF, "other", find, cross_namespace=False)
    assert (caught.value.reason, caught.value.message) == (
        "AccessDenied",
        "can't access 'GitRepository/ns/repo', cross-namespace references have been blocked",
    )
    with pytest.raises(Waiting, match=r'GitRepository\.source\.toolkit\.fluxcd\.io "repo" not found'):
        resolve_source(REF, "ns", Known(), cross_namespace=True)
    with pytest.raises(Transient, match="kind 'Bucket' not supported"):
        resolve_source(SourceRef("Bucket", "ns", "repo"), "ns", find, cross_namespace=True)


def test_only_a_source_that_works_will_bring_lost_files() -> None:
    """Nobody fetches for a suspended source, and one that fails may fail for long: both are told."""

    def source(suspend: bool = False, **conditions: str) -> JSON:
        found = [{"type": kind, "status": status, "message": "m"} for kind, status in conditions.items()]
        return {
            "kind": "GitRepository",
            "metadata": {"name": "repo", "namespace": "ns"},
            "spec": {"suspend": suspend},
            "status": {"conditions": found},
        }

    assert will_be_fetched(source(Ready="True"))
    assert will_be_fetched(source(Ready="Unknown"))
    assert not will_be_fetched(source(Ready="False", FetchFailed="True"))
    assert not will_be_fetched(source(True, Ready="True"))
    assert "suspended" in str(no_artifact(source(True, Ready="True"), "30s"))
    assert no_artifact(source(), "30s").message == "Source artifact not found, retrying in 30s"


# -- who looks again -------------------------------------------------------------------------


def test_indexes_name_source_and_dependencies_with_their_namespaces() -> None:
    """Both default to the object's own namespace, and bear an object without a spec."""
    obj = kustomization("b", "a", "other/c")
    assert list(_source_of(obj)) == ["GitRepository/ns/repo"]
    assert list(_dependencies_of(obj)) == ["ns/a", "other/c"]
    bare = {"metadata": {"name": "x", "namespace": "ns"}}
    assert list(_dependencies_of(bare)) == []
    assert list(_source_of(bare)) == ["None/ns/None"]


def test_only_an_expression_makes_a_dependent_look_before_readiness() -> None:
    """Without one, nothing but readiness counts."""
    obj = kustomization("b", "a", {"name": "c", "readyExpr": "true"})
    assert not _judges(obj, "ns/a")
    assert _judges(obj, "ns/c")
    assert not _judges(obj, "ns/d")


def test_input_is_what_somebody_asked_for_and_not_our_own_writing() -> None:
    """Spec, request, deletion and another object of the same name count; status and labels do not."""
    base = kustomization("a")

    def changed(**metadata: Any) -> JSON:
        return {**base, "metadata": {**base["metadata"], **metadata}}

    assert not _asked(base, {**base, "status": {}})
    assert not _asked(base, changed(labels={"a": "b"}, resourceVersion="9"))
    assert _asked(base, changed(generation=2))
    assert _asked(base, changed(uid="other"))
    assert _asked(base, changed(deletionTimestamp="2026-01-01T00:00:00Z"))
    assert _asked(base, changed(annotations={"reconcile.fluxcd.io/requestedAt": "1"}))


def test_readiness_and_artifact_tell_what_others_wait_for() -> None:
    """Readiness begins with whether it is ready; a gone object differs from one without anything."""
    assert _readiness(kustomization("a"))[0] is True
    assert _readiness(kustomization("a", ready="False"))[0] is False
    assert _readiness(None) == ()
    assert _artifact(None) != _artifact({"status": {}})
    one = {"status": {"artifact": {"revision": "1", "digest": "a"}}}
    assert _artifact(one) == _artifact({"status": {"artifact": {"revision": "1", "digest": "a", "url": "u"}}})
    assert _artifact(one) != _artifact({"status": {"artifact": {"revision": "2", "digest": "a"}}})
