"""The recordings' player judges rightly: a recording equals itself, and no more passes than may."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import corpus_path
from tests.real.allowed_differences import ALLOWED, LIMIT
from tests.real.compare import ABSENT, Allowed, Difference, compare, edited_before, judge, same_message
from tests.real.player import Recording, reached
from tests.real.snapshots import Normaliser, distinct, event_text, managers, view

FOLDER = corpus_path(os.environ) / "flux-recordings"
# Without the corpus one test remains, to say so.
FILES = [path for path in sorted(FOLDER.glob("*.json")) if not Recording.load(path).has_helm] or [FOLDER]
C1, C2 = "0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"
JSON = dict[str, Any]


def normaliser() -> Normaliser:
    return Normaliser("s-basic", {"http://127.0.0.1:1/basic-repo.git": "http://git/basic-repo.git"}, [C1, C2])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recording_equals_itself(path: Path, corpus: Path) -> None:
    """Normalising a recording changes nothing in it, and comparing it with itself finds nothing."""
    recording = Recording.load(path)
    for label, snapshot in recording.snapshots.items():
        plain = Normaliser(recording.namespace, {}, []).value(snapshot)
        assert plain == snapshot
        assert compare(snapshot, plain, edited=edited_before(recording.steps, label)) == []


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give the paths of all texts and numbers in a value."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, index))]
    return [path]


def changed(value: Any, path: tuple[Any, ...]) -> Any:
    """Give a copy of a value with another leaf at a path."""
    result = copy.deepcopy(value)
    inner = result
    for step in path[:-1]:
        inner = inner[step]
    old = inner[path[-1]]
    inner[path[-1]] = f"x{old}" if isinstance(old, str) else (not old if isinstance(old, bool) else old + 7)
    return result


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_change_anywhere_in_a_recording_is_seen(path: Path, corpus: Path) -> None:
    """Each text and number of a snapshot that is changed is a difference, but in `Reconciling`'s message."""
    recording = Recording.load(path)
    for snapshot in recording.snapshots.values():
        for leaf in leaves(snapshot["objects"]):
            other = {"objects": changed(snapshot["objects"], leaf), "events": snapshot["events"]}
            found = compare(snapshot, other)
            quiet = (
                leaf[1] == "status" and leaf[-1] == "message" and _condition(snapshot, leaf) == "Reconciling"
            )
            assert bool(found) is not quiet, leaf
        for index in range(len(snapshot["events"])):
            fewer = [text for at, text in enumerate(snapshot["events"]) if at != index]
            assert compare(snapshot, {"objects": snapshot["objects"], "events": fewer})


def _condition(snapshot: JSON, leaf: tuple[Any, ...]) -> str:
    key, _, _, index = leaf[:4]
    return str(snapshot["objects"][key]["status"]["conditions"][index]["type"])


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (f"main@sha1:{C1}", "main@sha1:{c1}"),
        (f"main@{C2[:12]} and {C2[:8]}", "main@{c2:12} and {c2:8}"),
        ("http://127.0.0.1:1/basic-repo.git", "http://git/basic-repo.git"),
        ("finished in 1m2.5s, next run in 10m0s", "finished in {duration}, next run in {duration}"),
        ("after 30.001s: timeout", "after {duration}: timeout"),
        ("s-basic_a__ConfigMap", "{ns}_a__ConfigMap"),
        ("ConfigMap/s-basic/a", "ConfigMap/{ns}/a"),
        ("it-is-basic of has-basics", "it-is-basic of has-basics"),
        ("side@sha256:" + "0" * 64, "side@sha256:{digest}"),
        ("stat /tmp/kustomization-12345/app: no", "stat {tmp}/app: no"),
        ("at 2026-01-01T00:00:00Z by 8d3c1f5e-0000-4000-8000-000000000001", "at {time} by {uid}"),
        ("1.1.0@v2, x7, 25%, web:1", "1.1.0@v2, x7, 25%, web:1"),
    ],
)
def test_texts_are_normalised(raw: str, shown: str) -> None:
    """What differs from run to run is replaced as the recordings have it, and nothing else."""
    assert normaliser().text(raw) == shown


def test_a_folder_of_the_engine_is_a_temporary_one() -> None:
    """A path below a folder that the engine was given is shown as a temporary folder."""
    other = Normaliser("s-x", {}, [], ("/var/engine/tmp",))
    assert other.text("stat /var/engine/tmp/k-1/app: no") == "stat {tmp}/app: no"


def test_an_object_is_seen_without_what_each_run_makes_anew() -> None:
    """Of a plain object the view keeps metadata, content and owners; of a Flux kind the status instead."""
    meta = {"name": "a", "uid": "u", "resourceVersion": "1", "generation": 2, "creationTimestamp": "now"}
    plain = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**meta, "deletionTimestamp": "now"},
        "data": {"k": "v"},
        "immutable": True,
    }
    assert view(plain) == {
        "metadata": {"name": "a", "deletionTimestamp": "set"},
        "data": {"k": "v"},
        "managers": {},
    }
    flux = {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": meta,
        "spec": {"url": "x"},
        "status": {
            "observedGeneration": 2,
            "artifact": {
                "revision": "r",
                "digest": "d",
                "url": "u",
                "size": 1,
                "path": "p",
                "lastUpdateTime": "t",
            },
            "conditions": [{"type": "Ready", "lastTransitionTime": "t", "observedGeneration": 2}],
        },
    }
    assert view(flux) == {
        "metadata": {"name": "a"},
        "status": {"artifact": {"revision": "r"}, "conditions": [{"type": "Ready"}]},
        "managers": {},
    }


def test_owners_are_told_by_manager_operation_and_subresource() -> None:
    """managedFields become sorted paths by manager; the controller manager's are left out."""
    fields = {"f:data": {".": {}, "f:k": {}}, "f:metadata": {"f:finalizers": {'v:"x"': {}}}}
    entries = [
        {"manager": "user", "operation": "Update", "subresource": "status", "fieldsV1": fields},
        {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": fields},
    ]
    paths = ["/f:data", "/f:data/f:k", '/f:metadata/f:finalizers/v:"x"']
    assert managers(entries) == {"user Update status": paths}


def test_events_of_other_kinds_are_not_seen() -> None:
    """Only Events about objects of Flux count, each once, in order of first appearance."""
    about = {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "name": "app"}
    event = {"involvedObject": about, "type": "Normal", "reason": "Progressing", "message": "x created"}
    assert event_text(event) == "Kustomization/app Normal Progressing: x created"
    assert event_text({**event, "involvedObject": {"apiVersion": "apps/v1", "kind": "Deployment"}}) == ""
    assert distinct(["b", "a", "b"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("recorded", "shown", "reason", "same"),
    [
        ("Applied revision: x", "Applied revision: x", "ReconciliationSucceeded", True),
        ("Applied revision: x", "Applied revision: x\nhint: y", "ReconciliationSucceeded", True),
        ("Applied revision: x", "Applied revision: xy", "ReconciliationSucceeded", False),
        ("Applied revision: x", "hint: y\nApplied revision: x", "ReconciliationSucceeded", False),
        ("refused\n", "refused\nhint: y", "ReconciliationFailed", True),
        ("refused\n", "refused", "ReconciliationFailed", False),
        ("kustomize build failed: a", "kustomize build failed: b", "BuildFailed", True),
        ("kustomize build failed: a", "kustomize build failed: ", "BuildFailed", False),
        ("kustomize build failed: a", "kustomize build failed: b", "ReconciliationFailed", False),
        ("kustomize build failed: a", "build failed: a", "BuildFailed", False),
        ("post build failed for 'a': b", "post build failed for 'a': c", "BuildFailed", False),
        (
            "failed to checkout and determine revision: a",
            "failed to checkout and determine revision: b",
            "GitOperationFailed",
            True,
        ),
        (
            "timeout: [C/a status: 'Unknown': failed to evaluate the CEL expression 'a == 'b'': no such]",
            "timeout: [C/a status: 'Unknown': failed to evaluate the CEL expression 'a == 'b'': no field]",
            "HealthCheckFailed",
            True,
        ),
        (
            "timeout: [C/a status: 'Unknown': failed to evaluate the CEL expression 'a == 'b'': no such]",
            "timeout: [C/a status: 'Unknown': failed to evaluate the CEL expression 'a == 'c'': no such]",
            "HealthCheckFailed",
            False,
        ),
    ],
)
def test_messages(recorded: str, shown: str, reason: str, same: bool) -> None:
    """A message begins with Flux's; inside that only the words of git, kustomize and CEL may differ."""
    assert same_message(recorded, shown, reason) is same


def kustomization(**status: Any) -> JSON:
    return {"objects": {"Kustomization/app": {"status": status}}, "events": []}


def ready(**more: str) -> JSON:
    return {"type": "Ready", "status": "True", "reason": "ReconciliationSucceeded", "message": "m"} | more


def test_a_moment_of_progress_may_be_missed_or_caught() -> None:
    """`Reconciling` may be absent while progressing; where Flux retries it must be there, in its place."""
    moment = ready(type="Reconciling", reason="Progressing")
    retry = ready(type="Reconciling", reason="ProgressingWithRetry")
    assert compare(kustomization(conditions=[moment, ready()]), kustomization(conditions=[ready()])) == []
    assert compare(kustomization(conditions=[ready()]), kustomization(conditions=[moment, ready()])) == []
    assert compare(kustomization(conditions=[retry, ready()]), kustomization(conditions=[ready()]))
    swapped = compare(kustomization(conditions=[retry, ready()]), kustomization(conditions=[ready(), retry]))
    assert [difference.path for difference in swapped] == [
        "objects/Kustomization/app/status/conditions/order"
    ]


def test_one_pass_less_is_only_right_after_an_edit() -> None:
    """The history may count one pass less, and only one, where a user edited a managed object."""
    two, one, none = (kustomization(history=[{"totalReconciliations": count}]) for count in (2, 1, 0))
    assert compare(two, one, edited=True) == []
    assert compare(two, one, edited=False)
    assert compare(two, none, edited=True)
    assert compare(one, two, edited=True)


def test_an_edit_is_a_patch_or_deletion_of_a_managed_object() -> None:
    """What users do before any Kustomization exists, or to Flux's own objects, is no edit."""
    patch = {"patch": {"ref": "ConfigMap/a", "body": {}}}
    flux = {"patch": {"ref": "Kustomization/app", "body": {}}}
    apply = {"apply": {"kind": "Kustomization"}}
    look = {"snapshot": "s"}
    assert not edited_before([patch, apply, look], "s")
    assert not edited_before([apply, flux, look], "s")
    assert not edited_before([apply, look, patch], "s")
    assert edited_before([apply, patch, look], "s")
    assert edited_before([apply, {"delete": "ConfigMap/a"}, look], "s")


def events(*texts: str) -> JSON:
    return {"objects": {}, "events": list(texts)}


def test_events_are_compared_by_object_and_in_order() -> None:
    """Order counts within an object, not between objects; Progressing lines are one set per object."""
    a, b = "Kustomization/x Normal A: 1", "Kustomization/x Warning B: 2"
    other = "GitRepository/y Normal C: 3"
    assert compare(events(a, b, other), events(other, a, b)) == []
    assert compare(events(a, b), events(b, a))
    one = "Kustomization/x Normal Progressing: a created\nb created"
    parts = "Kustomization/x Normal Progressing: b created", "Kustomization/x Normal Progressing: a created"
    assert compare(events(a, one), events(*parts, a)) == []
    found = compare(events(one), events(parts[0]))
    assert found == [
        Difference(
            "events/Kustomization/x/Progressing",
            ["Normal a created", "Normal b created"],
            ["Normal b created"],
        )
    ]


def test_what_follows_the_text_of_flux_makes_no_other_event() -> None:
    """Events that differ only in what follows the text of Flux are one; any other more is a difference."""
    wait = "Kustomization/x Normal DependencyNotReady: retrying in {duration}"
    done = "Kustomization/x Normal ReconciliationSucceeded: done"
    assert compare(events(wait, done), events(f"{wait}\na is missing", f"{wait}\na is not ready", done)) == []
    assert compare(events(wait, done), events(f"{wait}\na is missing", done, f"{wait} more"))
    assert compare(events(wait, done), events(wait, done, "Kustomization/x Normal Other: done"))
    build = "Kustomization/x Warning BuildFailed: kustomize build failed: "
    assert compare(events(f"{build}a", f"{build}b"), events(f"{build}c", f"{build}d")) == []
    assert compare(events(f"{build}a"), events(f"{build}c", f"{build}d"))


def test_an_allowed_difference_is_exact() -> None:
    """An entry allows one value at one path of one snapshot of one recording, and is told as used."""
    difference = Difference("objects/A/a", ABSENT, {"k": 1})
    entry = Allowed("basic", "installed", "objects/A/a", {"k": 1}, "better")
    assert judge("basic", {"installed": [difference]}, [entry]) == ([], [entry])
    for wrong in (
        Allowed("other", "installed", "objects/A/a", {"k": 1}, "better"),
        Allowed("basic", "changed", "objects/A/a", {"k": 1}, "better"),
        Allowed("basic", "installed", "objects/A", {"k": 1}, "better"),
        Allowed("basic", "installed", "objects/A/a", {"k": 2}, "better"),
    ):
        refused, used = judge("basic", {"installed": [difference]}, [wrong])
        assert refused
        assert not used


def test_the_list_of_allowed_differences_is_short() -> None:
    """There are at most ten allowed differences, each with a reason and named once."""
    assert len(ALLOWED) <= LIMIT == 10
    assert all(len(entry.why.split()) >= 5 for entry in ALLOWED)
    assert len({(entry.recording, entry.snapshot, entry.path) for entry in ALLOWED}) == len(ALLOWED)


def test_a_wait_is_over_when_its_state_is_reached() -> None:
    """Each kind of `wait` looks at what the README names, and a readiness of an older generation is none."""
    obj: JSON = {
        "metadata": {"generation": 2, "annotations": {"reconcile.fluxcd.io/requestedAt": "t1"}},
        "data": {"k": "one"},
        "status": {
            "observedGeneration": 2,
            "lastAppliedRevision": f"main@sha1:{C1}",
            "lastHandledReconcileAt": "t1",
            "conditions": [ready()],
        },
    }
    commits = [C1, C2]
    assert reached({"until": "exists"}, obj, commits)
    assert not reached({"until": "exists"}, None, commits)
    assert reached({"until": "gone"}, None, commits)
    assert not reached({"until": "gone"}, obj, commits)
    assert reached({"until": {"/data/k": "one"}}, obj, commits)
    assert not reached({"until": {"/data/k": "two"}}, obj, commits)
    assert reached({"until": "ready", "revision": "c1", "handled": True}, obj, commits)
    assert not reached({"until": "ready", "revision": "c2"}, obj, commits)
    assert not reached({"until": "ready", "reason": "Other"}, obj, commits)
    assert not reached({"until": "ready", "message": "other"}, obj, commits)
    assert not reached({"until": "failed"}, obj, commits)
    unhandled = {
        **obj,
        "metadata": {"generation": 2, "annotations": {"reconcile.fluxcd.io/requestedAt": "t2"}},
    }
    assert not reached({"until": "ready", "handled": True}, unhandled, commits)
    assert not reached({"until": "ready"}, {**obj, "metadata": {"generation": 3}}, commits)
