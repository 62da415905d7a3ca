"""Conclusions: outcomes become the conditions, history and events that Flux writes."""

from __future__ import annotations

from typing import Any

import pytest

from gitwright.apply.inventory import Inventory
from gitwright.controllers.conclude import (
    APPLYING,
    BUILDING,
    CHECKING,
    FETCHING,
    Pace,
    Run,
    conclude,
    conclude_source,
    merged,
    progress,
    status_patch,
)
from gitwright.core.errors import Denied, GitwrightError, Stalled, Transient, Waiting
from gitwright.core.objects import JSON, ObjectKey
from gitwright.notify.events import Note

PACE = Pace(interval=600.0, retry=2.0, dependency=30.0)
NOW = "2026-01-01T00:00:00Z"
RUN = Run(revision="main@sha1:1", stage=CHECKING, timeout=30.0, digest="sha256:a", seconds=1.5)


def kustomization(status: JSON | None = None, **annotations: str) -> JSON:
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": "app", "namespace": "ns", "generation": 2, "annotations": annotations},
        "status": status or {"observedGeneration": -1},
    }


def shape(status: JSON) -> list[tuple[str, str, str]]:
    return [(item["type"], item["status"], item["reason"]) for item in status["conditions"]]


def test_success_is_ready_observed_and_told_once() -> None:
    """Ready, the revision, the history and the closing event, as Flux writes them."""
    inventory = Inventory.of([(ObjectKey("", "ConfigMap", "ns", "a"), "v1")])
    run = Run(**{**_fields(RUN), "inventory": inventory, "applied": ("ConfigMap/ns/a created",)})
    end = conclude(kustomization(), run, None, PACE, NOW)
    assert shape(end.status) == [("Ready", "True", "ReconciliationSucceeded")]
    assert end.status["observedGeneration"] == 2
    assert end.status["lastAppliedRevision"] == end.status["lastAttemptedRevision"] == "main@sha1:1"
    assert end.status["inventory"] == {"entries": [{"id": "ns_a__ConfigMap", "v": "v1"}]}
    assert [(note.reason, note.message) for note in end.notes] == [
        ("Progressing", "ConfigMap/ns/a created"),
        ("ReconciliationSucceeded", "Reconciliation finished in 1.5s, next run in 10m0s"),
    ]
    assert end.notes[1].annotations["kustomize.toolkit.fluxcd.io/commit_status"] == "update"
    assert end.requeue_after == 600


def test_the_history_counts_equal_results_and_keeps_five() -> None:
    """Equal digest and outcome count up; others are put in front; five are kept."""
    status: JSON = {"observedGeneration": -1}
    for digest in ("a", "a", "b", "c", "d", "e", "f"):
        run = Run(**{**_fields(RUN), "digest": digest})
        status = conclude(kustomization(status), run, None, PACE, NOW).status
    assert [entry["digest"] for entry in status["history"]] == ["f", "e", "d", "c", "b"]
    run = Run(**{**_fields(RUN), "digest": "d"})
    status = conclude(kustomization(status), run, None, PACE, NOW).status
    assert (status["history"][0]["digest"], status["history"][0]["totalReconciliations"]) == ("d", 2)


@pytest.mark.parametrize(
    ("error", "stage", "shown", "attempted"),
    [
        (
            Transient("x", reason="BuildFailed"),
            BUILDING,
            [("Reconciling", "True", "ProgressingWithRetry"), ("Ready", "False", "BuildFailed")],
            True,
        ),
        (
            Transient("x", reason="ArtifactFailed"),
            FETCHING,
            [("Reconciling", "True", "ProgressingWithRetry"), ("Ready", "False", "ArtifactFailed")],
            False,
        ),
        (Waiting("x", reason="ArtifactFailed"), "", [("Ready", "False", "ArtifactFailed")], False),
        (Waiting("x"), "", [("Ready", "False", "DependencyNotReady")], False),
        (
            Transient("health check failed after 1s: timeout", reason="HealthCheckFailed"),
            CHECKING,
            [
                ("Reconciling", "True", "ProgressingWithRetry"),
                ("Ready", "False", "HealthCheckFailed"),
                ("Healthy", "False", "HealthCheckFailed"),
            ],
            True,
        ),
        (
            Denied("x", reason="AccessDenied"),
            "",
            [("Stalled", "True", "AccessDenied"), ("Ready", "False", "AccessDenied")],
            False,
        ),
    ],
)
def test_failures_show_flux_conditions(
    error: GitwrightError, stage: str, shown: list[tuple[str, str, str]], attempted: bool
) -> None:
    """Each kind of failure has the conditions and fields that Flux gives it."""
    end = conclude(kustomization(), Run(**{**_fields(RUN), "stage": stage}), error, PACE, NOW)
    assert shape(end.status) == shown
    assert ("lastAttemptedRevision" in end.status) == attempted
    stalled = shown[0][0] == "Stalled"
    assert end.status["observedGeneration"] == (2 if stalled else -1)
    assert (end.requeue_after is None) == stalled


def test_an_apply_error_ends_with_the_log_of_what_was_applied() -> None:
    """Flux's text, its newline, what was applied before, then ours."""
    error = Transient(
        "Secret/ns/s dry-run failed (Invalid): no", reason="ReconciliationFailed", hint="mend it"
    )
    run = Run(**{**_fields(RUN), "stage": APPLYING, "applied": ("Namespace/ns created",)})
    end = conclude(kustomization(), run, error, PACE, NOW)
    message = end.status["conditions"][1]["message"]
    assert message == "Secret/ns/s dry-run failed (Invalid): no\nNamespace/ns created\nhint: mend it"
    assert [note.kind for note in end.notes] == ["Warning"]
    bare = conclude(kustomization(), Run(**{**_fields(RUN), "stage": APPLYING}), Transient("x"), PACE, NOW)
    assert bare.status["conditions"][1]["message"] == "x\n"


def test_the_same_failure_again_writes_and_tells_nothing_new() -> None:
    """A retry that fails in the same way leaves the status as it is, and is told once."""
    error = Transient("x", reason="BuildFailed")
    run = Run(**{**_fields(RUN), "stage": BUILDING, "digest": ""})
    first = conclude(kustomization(), run, error, PACE, NOW)
    second = conclude(kustomization(first.status), run, error, PACE, "2026-01-01T00:01:00Z")
    assert len(first.notes) == 1
    assert second.notes == ()
    assert status_patch(first.status, second.status) is None


def test_a_request_is_answered_also_by_a_failure() -> None:
    """lastHandledReconcileAt follows the annotation whatever the outcome, and the event is told again."""
    error = Transient("x", reason="BuildFailed")
    first = conclude(kustomization(), RUN, error, PACE, NOW)
    asked = kustomization(first.status, **{"reconcile.fluxcd.io/requestedAt": "t1"})
    end = conclude(asked, RUN, error, PACE, NOW)
    assert end.status["lastHandledReconcileAt"] == "t1"
    assert len(end.notes) == 1


@pytest.mark.parametrize(
    ("was_healthy", "drifted", "revision", "told"),
    [
        (False, False, "main@sha1:1", True),
        (True, False, "main@sha1:0", False),
        (True, True, "main@sha1:0", True),
        (True, True, "main@sha1:1", False),
    ],
)
def test_health_is_told_on_recovery_and_on_changes_of_a_new_revision(
    was_healthy: bool, drifted: bool, revision: str, told: bool
) -> None:
    """The event comes when health came back, or a new revision changed something."""
    run = Run(
        **{
            **_fields(RUN),
            "checked": True,
            "was_healthy": was_healthy,
            "drifted": drifted,
            "health": "Health check passed in 1s",
        }
    )
    end = conclude(kustomization({"lastAppliedRevision": revision}), run, None, PACE, NOW)
    assert ("Health check passed in 1s" in [note.message for note in end.notes]) == told
    assert ("Healthy", "True", "Succeeded") in shape(end.status)


def test_progress_shows_what_is_awaited_and_the_inventory_before_the_first_write() -> None:
    """Ready is Unknown while a run is under way; old and new objects are in the inventory."""
    inventory = Inventory.of([(ObjectKey("", "ConfigMap", "ns", "a"), "v1")])
    status = progress(kustomization(), Run(**{**_fields(RUN), "inventory": inventory}), NOW, healthy=True)
    assert shape(status) == [
        ("Reconciling", "True", "Progressing"),
        ("Ready", "Unknown", "Progressing"),
        ("Healthy", "Unknown", "Progressing"),
    ]
    assert status["inventory"] == inventory.write()


def test_progress_lines_of_a_run_become_one_event() -> None:
    """One request for all lines; other events keep their order after it."""
    notes = [Note("Normal", "Progressing", "a"), Note("Normal", "Progressing", "b"), Note("Normal", "X", "c")]
    assert [note.message for note in merged(notes)] == ["a\nb", "c"]


def test_a_new_artifact_is_told_and_an_old_one_is_not() -> None:
    """The event follows the digest; a look that finds nothing new changes nothing."""
    artifact = {"digest": "sha256:1", "revision": "main@sha1:1"}
    source = kustomization()
    first = _source(source, artifact, None)
    assert [note.reason for note in first.notes] == ["NewArtifact"]
    assert shape(first.status) == [("Ready", "True", "Succeeded"), ("ArtifactInStorage", "True", "Succeeded")]
    again = _source({**source, "status": first.status}, artifact, None)
    assert again.notes == ()
    assert status_patch(first.status, again.status) is None


def test_a_source_that_fails_keeps_its_artifact_and_recovers_with_an_event() -> None:
    """Conditions of a failed fetch as Flux has them; recovery is told as Succeeded."""
    artifact = {"digest": "sha256:1", "revision": "main@sha1:1"}
    source = kustomization()
    good = _source(source, artifact, None)
    failed = _source({**source, "status": good.status}, None, Transient("gone", reason="GitOperationFailed"))
    assert shape(failed.status) == [
        ("Reconciling", "True", "ProgressingWithRetry"),
        ("Ready", "False", "GitOperationFailed"),
        ("ArtifactInStorage", "True", "Succeeded"),
        ("FetchFailed", "True", "GitOperationFailed"),
    ]
    assert failed.status["artifact"] == artifact
    assert failed.backoff
    back = _source({**source, "status": failed.status}, artifact, None)
    assert [note.reason for note in back.notes] == ["Succeeded"]
    stalled = _source(source, None, Stalled("bad url", reason="URLInvalid"))
    assert ("Stalled", "True", "URLInvalid") in shape(stalled.status)
    assert stalled.requeue_after == 600


def _source(obj: JSON, artifact: JSON | None, error: GitwrightError | None) -> Any:
    return conclude_source(
        obj, artifact=artifact, observed={}, error=error, subject="commit 1", pace=PACE, now=NOW
    )


def _fields(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in Run.__dataclass_fields__}


def test_a_status_patch_holds_only_what_changed() -> None:
    """Removed fields are null, equal ones absent, nested ones minimal."""
    assert status_patch({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 1, "d": 3}, "e": [1]}) == {
        "a": None,
        "b": {"d": 3},
        "e": [1],
    }
    assert status_patch({"a": 1}, {"a": 1}) is None
