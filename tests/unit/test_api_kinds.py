"""Reading objects as typed values: what is accepted, what is refused, and Flux's defaults."""

from __future__ import annotations

import json
import re
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitwright.api import base, crds, meta
from gitwright.api.kinds import KINDS, Kind, decode, find
from gitwright.api.kustomize import Kustomization
from gitwright.api.source import GitRepository
from gitwright.core.errors import Stalled
from gitwright.core.objects import JSON, ObjectKey
from tests.unit.test_crds import corpus


def kustomization(**spec: Any) -> JSON:
    """Make a Kustomization with the required fields and those given."""
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": "apps", "namespace": "team", "generation": 3},
        "spec": {
            "interval": "10m",
            "prune": True,
            "sourceRef": {"kind": "GitRepository", "name": "repo"},
            **spec,
        },
    }


def repository(**spec: Any) -> JSON:
    """Make a GitRepository with the required fields and those given."""
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": "repo", "namespace": "team"},
        "spec": {"interval": "1m", "url": "https://example.com/repo", **spec},
    }


def test_kustomization_defaults_are_flux_ones() -> None:
    """A Kustomization with only its required fields behaves as Flux says."""
    typed = decode(Kustomization, kustomization())
    assert typed.key == ObjectKey(meta.KUSTOMIZE_GROUP, "Kustomization", "team", "apps")
    assert typed.generation == 3
    assert (typed.interval, typed.requeue, typed.retry_interval) == (600.0, 600.0, 600.0)
    assert typed.timeout() == 570.0
    assert typed.source == ObjectKey(meta.SOURCE_GROUP, "GitRepository", "team", "repo")
    assert (typed.deletion_policy, typed.substitute_strategy) == ("MirrorPrune", "WithVariables")
    assert typed.deletes
    assert typed.inventory == ()
    assert [typed.suspended, typed.deleting, typed.finalized, typed.requested] == [False] * 4


@pytest.mark.parametrize(
    ("spec", "floor", "expected"),
    [
        ({"interval": "10m"}, 30.0, 570.0),
        ({"interval": "40s"}, 30.0, 30.0),
        ({"interval": "10m", "timeout": "2m"}, 30.0, 120.0),
        ({"interval": "10m", "timeout": "5s"}, 30.0, 30.0),
        ({"interval": "10m", "timeout": "5s"}, 1.0, 5.0),
        ({"interval": "10s"}, 1.0, 1.0),
    ],
)
def test_timeout(spec: JSON, floor: float, expected: float) -> None:
    """The time limit is the given one, else the interval less 30 s, and never below the floor."""
    assert decode(Kustomization, kustomization(**spec)).timeout(floor) == expected


@pytest.mark.parametrize(
    ("policy", "prune", "expected"),
    [
        (None, True, True),
        (None, False, False),
        ("MirrorPrune", False, False),
        ("Delete", False, True),
        ("WaitForTermination", False, True),
        ("Orphan", True, False),
    ],
)
def test_deletion_policy(policy: str | None, prune: bool, expected: bool) -> None:
    """Deletion deletes what was applied as the policy says, and as prune says without one."""
    spec: JSON = {"prune": prune} | ({"deletionPolicy": policy} if policy else {})
    assert decode(Kustomization, kustomization(**spec)).deletes is expected


def test_references_take_the_namespace_of_the_object() -> None:
    """A dependency or source without namespace is sought in the object's own."""
    typed = decode(
        Kustomization,
        kustomization(
            dependsOn=[{"name": "a"}, {"name": "b", "namespace": "other"}],
            sourceRef={"kind": "Bucket", "name": "s", "namespace": "infra"},
        ),
    )
    assert [str(key) for key in typed.dependencies] == ["Kustomization/team/a", "Kustomization/other/b"]
    assert str(typed.source) == "Bucket/infra/s"


def test_health_check_without_version_means_a_workload() -> None:
    """A health check without apiVersion is of apps/v1."""
    typed = decode(
        Kustomization,
        kustomization(healthChecks=[{"kind": "Deployment", "name": "a"}]),
    )
    assert str(typed.spec.health_checks[0].gvk) == "apps/v1, Kind=Deployment"


def test_git_repository_defaults_are_flux_ones() -> None:
    """A GitRepository with only its required fields behaves as Flux says."""
    typed = decode(GitRepository, repository())
    assert (typed.interval, typed.requeue, typed.timeout) == (60.0, 60.0, 60.0)
    assert typed.ref.branch == "master"
    assert typed.provider == "generic"
    assert typed.status.artifact is None


def test_a_given_reference_gets_no_default_branch() -> None:
    """The branch `master` is filled in only when no field of spec.ref is set."""
    typed = decode(GitRepository, repository(ref={"tag": "v1"}))
    assert (typed.ref.tag, typed.ref.branch) == ("v1", "")
    assert decode(GitRepository, repository(ref={})).ref.branch == "master"


@pytest.mark.parametrize(
    ("mode", "head", "tag"),
    [
        ("HEAD", True, False),
        ("head", True, False),
        ("Tag", False, True),
        ("TagAndHEAD", True, True),
        (None, True, False),
    ],
)
def test_verification_modes(mode: str | None, head: bool, tag: bool) -> None:
    """A mode of verification says whether commit and tag must be signed."""
    verify: JSON = {"secretRef": {"name": "keys"}} | ({"mode": mode} if mode else {})
    found = decode(GitRepository, repository(verify=verify)).spec.verify
    assert found is not None
    assert (found.head, found.tag) == (head, tag)


def test_included_files_go_below_the_name_of_their_repository() -> None:
    """An include without toPath is put below the repository's name."""
    include = [{"repository": {"name": "other"}}, {"repository": {"name": "b"}, "toPath": "x"}]
    typed = decode(GitRepository, repository(include=include))
    assert [entry.target for entry in typed.spec.include] == ["other", "x"]


@pytest.mark.parametrize(
    ("obj", "place", "text"),
    [
        (kustomization(prune="yes"), "$.spec.prune", "bool"),
        (kustomization(interval="soon"), "$.spec.interval", "regex"),
        (kustomization(deletionPolicy="Never"), "$.spec.deletionPolicy", "enum"),
        (kustomization(patches=[{"patch": "a"}, {}]), "$.spec.patches[1].patch", "required"),
        (kustomization(sourceRef={"kind": "GitRepository"}), "$.spec.sourceRef.name", "required"),
        (kustomization(targetNamespace="x" * 64), "$.spec.targetNamespace", "length"),
        (kustomization(postBuild={"substitute": {"a": 1}}), "$.spec.postBuild.substitute[...]", "str"),
        (kustomization() | {"spec": []}, "$.spec", "object"),
        ({**kustomization(), "metadata": []}, "$.metadata", "object"),
    ],
)
def test_a_refusal_names_object_field_reason_and_hint(obj: JSON, place: str, text: str) -> None:
    """What its CRD would not admit is refused with object, field path, reason and hint."""
    with pytest.raises(Stalled) as refused:
        decode(Kustomization, obj)
    error = refused.value
    assert error.place == place
    assert text in error.detail
    assert error.reason == meta.INVALID_SPEC
    assert error.subject in ("Kustomization/team/apps", "Kustomization")
    assert error.hint


def test_no_value_is_repeated_in_a_refusal() -> None:
    """A refusal does not show the text of a variable, which may be a secret."""
    with pytest.raises(Stalled) as refused:
        decode(Kustomization, kustomization(postBuild={"substitute": {"password": ["hunter2"]}}))
    assert "hunter2" not in str(refused.value)


def test_unknown_kinds_are_a_mistake_of_the_caller() -> None:
    """A kind that gitwright does not run is no object of ours."""
    with pytest.raises(KeyError):
        decode("HelmRelease", {})


def test_an_object_without_spec_asks_for_nothing() -> None:
    """The CRDs admit an object without spec; it reads as Go's zero values and never runs by itself."""
    bare = {key: value for key, value in kustomization().items() if key != "spec"}
    typed = decode(Kustomization, bare)
    assert (typed.interval, typed.retry_interval, typed.spec.prune) == (0.0, 0.0, False)
    assert not typed.deletes
    assert decode(GitRepository, {"metadata": {"name": "a"}}).spec.url == ""


def test_a_duration_past_go_is_cut() -> None:
    """A duration that its pattern admits and Go cannot hold is cut to the longest Go has."""
    typed = decode(Kustomization, kustomization(interval="9" * 300 + "h"))
    assert typed.interval == base.LONGEST


def test_unknown_fields_are_ignored() -> None:
    """Fields of a later version are not an error."""
    obj = kustomization(newField={"a": 1}) | {"status": {"newStatus": True, "observedGeneration": -1}}
    assert decode(Kustomization, obj).status.observed_generation == -1


def test_a_request_is_open_until_it_is_answered() -> None:
    """A reconcile request counts as open while the status does not repeat it."""
    obj = kustomization()
    obj["metadata"]["annotations"] = {meta.REQUESTED_AT: "t1", "event.toolkit.fluxcd.io/team": "x"}
    assert decode(Kustomization, obj).requested
    assert decode(Kustomization, obj).event_metadata == {"event.toolkit.fluxcd.io/team": "x"}
    obj["status"] = {"lastHandledReconcileAt": "t1"}
    assert not decode(Kustomization, obj).requested


def test_plain_gives_back_what_was_read() -> None:
    """A typed part of a spec turns back into the JSON it was read from."""
    patch = {"patch": "- op: remove", "target": {"kind": "Deployment", "labelSelector": "a=b"}}
    typed = decode(Kustomization, kustomization(patches=[patch]))
    assert base.plain(typed.spec.patches) == [patch]


@pytest.mark.parametrize("word", ["ks", "Kustomization", "kustomizations", "KUSTOMIZATION"])
def test_a_kind_is_found_by_each_of_its_names(word: str) -> None:
    """Kind, singular, plural and short name find the kind, in any case."""
    found = find(word)
    assert found is not None
    assert found.name == "Kustomization"
    assert find("helmrelease") is None


def test_recorded_objects_are_accepted() -> None:
    """Every Kustomization and GitRepository of Flux's recordings is read, its conditions come back whole."""
    seen = applied = 0
    for path in sorted((corpus().parent / "flux-recordings").glob("*.json")):
        recording = json.loads(path.read_text().replace("{url:", "http://git/{"))
        for step in recording["steps"]:
            kind = step.get("apply", {}).get("kind")
            if kind in ("Kustomization", "GitRepository"):
                obj = step["apply"]
                assert decode(kind, obj).metadata.name == obj["metadata"]["name"]
                applied += 1
        for snapshot in recording["snapshots"].values():
            for name, obj in snapshot["objects"].items():
                kind = name.partition("/")[0]
                if kind not in ("Kustomization", "GitRepository"):
                    continue
                # Recordings leave out times and digests, which the CRD requires.
                conditions = [
                    {"lastTransitionTime": "2026-01-01T00:00:00Z", **condition}
                    for condition in obj["status"].get("conditions", [])
                ]
                typed = decode(kind, {"metadata": obj["metadata"], "status": {"conditions": conditions}})
                status = typed.status
                assert status.condition_list == conditions
                seen += 1
    assert seen > 100
    assert applied > 40


# ---- everything that the CRD admits, made from the CRD itself


def values(schema: JSON) -> st.SearchStrategy[Any]:
    """Make values that a schema admits."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "object":
            return _objects(schema)
        case "array":
            return st.lists(values(schema["items"]), max_size=3)
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema.get("minimum", -(2**63)), 2**63 - 1)
        case _:
            return _strings(schema)


def _objects(schema: JSON) -> st.SearchStrategy[Any]:
    if "additionalProperties" in schema:
        return st.dictionaries(st.text(max_size=5), values(schema["additionalProperties"]), max_size=3)
    properties = {name: values(child) for name, child in schema.get("properties", {}).items()}
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {name: value for name, value in properties.items() if name in required},
        optional={name: value for name, value in properties.items() if name not in required},
    )


def _strings(schema: JSON) -> st.SearchStrategy[str]:
    pattern = schema.get("pattern")
    low, high = schema.get("minLength", 0), schema.get("maxLength", 40)
    if pattern:
        made = st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True)
        return made.filter(lambda text: low <= len(text) <= high or "maxLength" not in schema)
    return st.text(min_size=low, max_size=min(high, low + 20))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
@hypothesis.settings(max_examples=40, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@given(data=st.data())
def test_whatever_the_crd_admits_is_accepted(kind: Kind, data: st.DataObject) -> None:
    """No value that the CRD's schema admits makes decode raise, nor a duration property of it."""
    root = crds.crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    obj = data.draw(
        st.fixed_dictionaries(
            {"metadata": st.just({"name": "a", "namespace": "b"})},
            optional={part: values(root["properties"][part]) for part in ("spec", "status")},
        )
    )
    typed = decode(kind.name, obj)
    assert isinstance(typed, GitRepository | Kustomization)
    assert 0 <= typed.interval <= base.LONGEST
    assert isinstance(typed.status.condition_list, list)
    # What was read can be written, and says the same when read again.
    assert msgspec.convert(base.plain(typed), kind.type) == typed
