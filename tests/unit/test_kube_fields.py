"""Field ownership: paths, selection, union and take-over of FieldsV1 sets."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitwright.core.objects import JSON
from gitwright.kube import fields
from tests.conftest import corpus_path

MANAGER = "kustomize-controller"


def managed(manager: str, operation: str, owned: JSON, **more: str) -> JSON:
    entry = {"manager": manager, "operation": operation, "apiVersion": "v1", "time": "2026-01-01T00:00:00Z"}
    return {**entry, "fieldsType": "FieldsV1", "fieldsV1": owned, **more}


def trie(paths: list[str]) -> JSON:
    """Build the FieldsV1 set whose paths these are."""
    root: JSON = {}
    for path in paths:
        node = root
        for part in split(path):
            node = node.setdefault(part, {})
    return mark(root, "", frozenset(paths))


def mark(node: JSON, prefix: str, owned: frozenset[str]) -> JSON:
    """Add the `.` members of parents that are owned themselves."""
    own: JSON = {".": {}} if node and prefix in owned else {}
    return {**own, **{name: mark(child, f"{prefix}/{name}", owned) for name, child in node.items()}}


def split(path: str) -> list[str]:
    """Cut a path at the slashes that begin an element, not at those within names."""
    parts: list[str] = []
    for piece in path[1:].split("/"):
        if piece[:2] in ("f:", "k:", "v:", "i:"):
            parts.append(piece)
        else:
            parts[-1] += "/" + piece
    return parts


def recorded() -> list[list[str]]:
    folder = corpus_path({}) / "flux-recordings"
    if not folder.is_dir():
        return []
    found: dict[tuple[str, ...], None] = {}
    for file in sorted(Path(folder).glob("*.json")):
        for snapshot in json.loads(file.read_text())["snapshots"].values():
            for obj in snapshot["objects"].values():
                for paths in (obj.get("managers") or {}).values():
                    found[tuple(paths)] = None
    return [list(paths) for paths in found]


def test_paths_are_written_as_in_the_recordings() -> None:
    """The set of any recorded path list gives exactly these paths back."""
    lists = recorded()
    if not lists:
        pytest.skip("the recordings are not there; set GITWRIGHT_CORPUS")
    assert len(lists) > 50
    for paths in lists:
        assert fields.paths(trie(paths)) == frozenset(paths)


def test_leaves_and_owned_parents_are_paths() -> None:
    """A leaf is a path, a parent is one only where it is owned itself."""
    owned = {
        "f:metadata": {"f:finalizers": {".": {}, 'v:"a"': {}}},
        "f:spec": {"f:ports": {'k:{"port":80}': {".": {}, "f:port": {}}}, "f:replicas": {}},
    }
    assert fields.paths(owned) == {
        "/f:metadata/f:finalizers",
        '/f:metadata/f:finalizers/v:"a"',
        '/f:spec/f:ports/k:{"port":80}',
        '/f:spec/f:ports/k:{"port":80}/f:port',
        "/f:spec/f:replicas",
    }
    assert fields.paths({}) == frozenset()


DEPLOYMENT: JSON = {
    "metadata": {"labels": {"a/b": "1", "other": "2"}, "finalizers": ["x", "y"], "uid": "u"},
    "spec": {
        "replicas": 3,
        "paused": True,
        "template": {
            "containers": [
                {"name": "side", "image": "s:1"},
                {"name": "web", "image": "w:1", "resources": {"limits": {"cpu": 1}}, "env": [{"name": "A"}]},
            ]
        },
        "ports": [{"port": 80, "name": "http"}, {"port": 80, "protocol": "UDP"}],
        "args": ["a", "b"],
    },
}
OWNED: JSON = {
    "f:metadata": {"f:labels": {"f:a/b": {}}, "f:finalizers": {".": {}, 'v:"y"': {}}},
    "f:spec": {
        "f:replicas": {},
        "f:template": {"f:containers": {'k:{"name":"web"}': {".": {}, "f:image": {}, "f:resources": {}}}},
        "f:ports": {'k:{"port":80,"protocol":"TCP"}': {"f:name": {}}},
        "f:args": {},
        "f:missing": {"f:deep": {}},
    },
}


def test_selection_keeps_owned_values_in_the_objects_shape() -> None:
    """Maps, keyed items, set members and whole subtrees are cut out, without what is unowned or absent."""
    assert fields.select(DEPLOYMENT, OWNED) == {
        "metadata": {"labels": {"a/b": "1"}, "finalizers": ["y"]},
        "spec": {
            "replicas": 3,
            "template": {
                "containers": [{"name": "web", "image": "w:1", "resources": {"limits": {"cpu": 1}}}]
            },
            "ports": [{"port": 80, "name": "http"}],
            "args": ["a", "b"],
        },
    }


def test_selection_does_not_touch_its_input() -> None:
    """Neither the object nor the set is changed by a selection."""
    before = copy.deepcopy((DEPLOYMENT, OWNED))
    fields.select(DEPLOYMENT, OWNED)
    assert before == (DEPLOYMENT, OWNED)


@pytest.mark.parametrize("change", ["image", "order", "lost", "replicas"])
def test_a_difference_in_what_is_owned_shows(change: str) -> None:
    """Another value, a lost item or field changes the selection; another order of unowned items does not."""
    other = copy.deepcopy(DEPLOYMENT)
    containers = other["spec"]["template"]["containers"]
    if change == "image":
        containers[1]["image"] = "w:2"
    elif change == "order":
        containers.reverse()
        other["spec"]["paused"] = False
    elif change == "lost":
        del containers[1]
    else:
        del other["spec"]["replicas"]
    same = fields.select(other, OWNED) == fields.select(DEPLOYMENT, OWNED)
    assert same == (change == "order")


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [{"name": {"a": 1}}], [[1]], {"f": None}])
def test_selection_bears_values_of_any_type(value: Any) -> None:
    """An object of another shape than the set describes is cut without an error."""
    fields.select({"spec": value}, {"f:spec": {'k:{"name":"a"}': {"f:x": {}}, "v:1": {}, "i:0": {"f:y": {}}}})
    fields.select(value, {"f:spec": {}})


names = st.sampled_from(["f:a", "f:b", "f:c/d", 'k:{"name":"x"}', 'v:"s"'])
sets = st.recursive(
    st.just({}),
    lambda inner: st.builds(
        lambda children, own: {**({".": {}} if own and children else {}), **children},
        st.dictionaries(names, inner, max_size=3),
        st.booleans(),
    ),
    max_leaves=12,
).map(lambda node: {name: child for name, child in node.items() if name != "."})


@given(sets, sets)
def test_a_union_owns_what_either_owns(a: JSON, b: JSON) -> None:
    """The paths of a union are the paths of both, whichever comes first."""
    both = fields.paths(a) | fields.paths(b)
    assert fields.paths(fields.union(a, b)) == both
    assert fields.paths(fields.union(b, a)) == both


@given(sets)
def test_a_union_with_itself_or_nothing_changes_nothing(a: JSON) -> None:
    """Union is idempotent and has the empty set as its neutral element."""
    assert fields.union(a, a) == a
    assert fields.union(a, {}) == a
    assert fields.union({}, a) == a


def test_an_entry_is_found_by_manager_operation_and_subresource() -> None:
    """An entry matches only with all three equal."""
    status = managed(MANAGER, "Update", {"f:status": {}}, subresource="status")
    applied = managed(MANAGER, "Apply", {"f:spec": {}})
    obj = {"metadata": {"managedFields": [status, applied]}}
    assert fields.entry(obj, MANAGER) == applied
    assert fields.entry(obj, MANAGER, "Update", "status") == status
    assert fields.entry(obj, MANAGER, "Update") is None
    assert fields.entry({}, MANAGER) is None


def test_older_appliers_are_merged_into_the_managers_entry() -> None:
    """kubectl's, before-first-apply's and our own Update entries go into our Apply entry, others stay."""
    entries = [
        managed("kubectl-client-side-apply", "Update", {"f:data": {"f:a": {}}}),
        managed(MANAGER, "Apply", {"f:data": {"f:b": {}}}),
        managed("kubectl", "Apply", {"f:data": {".": {}, "f:c": {}}}),
        managed("before-first-apply", "Update", {"f:data": {"f:d": {}}}),
        managed("before-first-apply", "Apply", {"f:data": {"f:kept": {}}}),
        managed(MANAGER, "Update", {"f:data": {"f:e": {}}}),
        managed("kubectl-edit", "Update", {"f:status": {}}, subresource="status"),
        managed("hpa", "Update", {"f:spec": {}}),
    ]
    before = copy.deepcopy(entries)
    merged = fields.take_over(entries, MANAGER)
    assert entries == before
    assert merged is not None
    assert [(entry["manager"], entry["operation"]) for entry in merged] == [
        ("before-first-apply", "Apply"),
        ("kubectl-edit", "Update"),
        ("hpa", "Update"),
        (MANAGER, "Apply"),
    ]
    owned = fields.paths(merged[-1]["fieldsV1"])
    assert owned == {"/f:data", *(f"/f:data/f:{name}" for name in "abcde")}
    assert fields.foreign(entries, MANAGER)
    assert not fields.foreign(merged, MANAGER)
    assert fields.take_over(merged, MANAGER) is None


def test_without_an_own_entry_the_first_taken_becomes_it() -> None:
    """The first entry that is taken over is renamed to the manager's Apply entry."""
    merged = fields.take_over([managed("kubectl-edit", "Update", {"f:data": {}})], MANAGER)
    assert merged == [managed(MANAGER, "Apply", {"f:data": {}})]


def test_further_managers_are_taken_on_request() -> None:
    """Managers named by the operator are taken over with both operations."""
    entries = [managed("legacy", "Update", {"f:a": {}}), managed("legacy", "Apply", {"f:b": {}})]
    assert fields.take_over(entries, MANAGER) is None
    assert not fields.foreign(entries, MANAGER)
    merged = fields.take_over(entries, MANAGER, extra=("legacy",))
    assert merged is not None
    assert fields.paths(merged[0]["fieldsV1"]) == {"/f:a", "/f:b"}
