"""From what a run found out to status, events and the time of the next run: pure.

Role in the flow: reconcilers collect a `Run` and raise; these functions are the one
place that words conditions. Source: spec/flux-v2.md 2.0 and 3.2; corpus/flux-recordings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitwright.api import meta
from gitwright.apply.inventory import Inventory
from gitwright.core import conditions, durations
from gitwright.core.errors import Denied, GitwrightError, Stalled, Transient, Waiting
from gitwright.core.objects import JSON
from gitwright.notify.events import Note

HISTORY = 5

FETCHING = "Fetching manifests"
BUILDING = "Building manifests"
APPLYING = "Detecting drift"
CHECKING = "Running health checks"


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a Kustomization found out and did, until it ended.

    Args:
        revision: revision of the artifact; empty when there was none.
        origin: origin revision of the artifact, or empty.
        stage: how far it came: one of FETCHING, BUILDING, APPLYING, CHECKING, or empty.
        timeout: the time limit, seconds.
        digest: digest of the built YAML; empty before the build.
        inventory: the inventory as it must stand now; None leaves the status' own.
        applied: change log lines of the apply not yet told.
        pruned: change log lines of the prune not yet told.
        health: `Health check passed in ...` when health was checked and good.
        unhealthy: Flux's text of what was not healthy.
        was_healthy: whether the last health check before this run was good.
        checked: whether this Kustomization has health checks at all.
        drifted: whether the apply changed anything.
        seconds: how long the run took.
    """

    revision: str = ""
    origin: str = ""
    stage: str = ""
    timeout: float = 0.0
    digest: str = ""
    inventory: Inventory | None = None
    applied: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    health: str = ""
    unhealthy: str = ""
    was_healthy: bool = False
    checked: bool = False
    drifted: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """When to come back, in seconds.

    Args:
        interval: after success.
        retry: after a failure.
        dependency: while something else must happen first.
    """

    interval: float
    retry: float
    dependency: float


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a run comes to.

    Args:
        status: the whole new status.
        notes: what to tell, in order.
        requeue_after: seconds until the next run; None when only a change can help.
        backoff: whether to come back by exponential back-off instead.
    """

    status: JSON
    notes: tuple[Note, ...]
    requeue_after: float | None
    backoff: bool = False


def annotations_of(run: Run) -> dict[str, str]:
    """Give the metadata that Flux puts on each event of a run."""
    found = {meta.KUSTOMIZE_REVISION: run.revision, meta.KUSTOMIZE_ORIGIN_REVISION: run.origin}
    return {name: value for name, value in found.items() if value}


def progress(obj: Mapping[str, Any], run: Run, now: str, *, healthy: bool = False) -> JSON:
    """Give the status while a run is under way.

    Args:
        obj: the Kustomization.
        run: what is known so far.
        now: RFC 3339 time.
        healthy: whether the Healthy condition is part of what is awaited.
    """
    status = dict(obj.get("status") or {})
    generation = int(obj["metadata"].get("generation") or 0)
    text = stage_text(run)
    found = status.get("conditions") or []
    found = _put(
        found, conditions.READY, "Unknown", "Progressing", "Reconciliation in progress", generation, now
    )
    found = _put(found, conditions.RECONCILING, "True", "Progressing", text, generation, now)
    if healthy:
        found = _put(found, conditions.HEALTHY, "Unknown", "Progressing", text, generation, now)
    status["conditions"] = found
    status["lastAttemptedRevision"] = run.revision
    if run.inventory is not None:
        status["inventory"] = run.inventory.write()
    return status


def stage_text(run: Run) -> str:
    """Give Flux's message of the Reconciling condition at a stage."""
    return f"{run.stage} for revision {run.revision} with a timeout of {durations.show(run.timeout)}"


def conclude(
    obj: Mapping[str, Any], run: Run, error: GitwrightError | None, pace: Pace, now: str
) -> Conclusion:
    """Turn the outcome of a run of a Kustomization into its new state.

    Args:
        obj: the Kustomization as it was when the run began.
        run: what the run found out.
        error: what it raised, or None.
        pace: when to come back.
        now: RFC 3339 time in UTC, to the second.
    """
    status = dict(obj.get("status") or {})
    requested = (obj["metadata"].get("annotations") or {}).get(meta.REQUESTED_AT)
    if requested:
        status["lastHandledReconcileAt"] = requested
    if run.stage in (BUILDING, APPLYING, CHECKING):
        status["lastAttemptedRevision"] = run.revision
    if run.inventory is not None:
        status["inventory"] = run.inventory.write()
    told = _told(run, error)
    if error is None:
        return _succeeded(obj, status, run, told, pace, now)
    return _failed(obj, status, run, error, told, pace, now)


def _told(run: Run, error: GitwrightError | None) -> list[Note]:
    notes = []
    lines = list(run.applied)
    if error is not None and error.reason == "ReconciliationFailed":
        # Flux puts the log of a partial apply into the error's own event.
        lines = []
    if lines:
        notes.append(Note("Normal", "Progressing", "\n".join(lines), annotations_of(run)))
    if run.pruned and (error is None or error.reason != "PruneFailed"):
        notes.append(Note("Normal", "Progressing", "\n".join(run.pruned), annotations_of(run)))
    return notes


def _succeeded(
    obj: Mapping[str, Any], status: JSON, run: Run, told: list[Note], pace: Pace, now: str
) -> Conclusion:
    generation = int(obj["metadata"].get("generation") or 0)
    found = conditions.drop(status.get("conditions") or [], conditions.RECONCILING, conditions.STALLED)
    if run.checked:
        renewed = status.get("lastAppliedRevision") != run.revision
        if not run.was_healthy or (renewed and run.drifted):
            told.append(Note("Normal", "Progressing", run.health, annotations_of(run)))
        found = _put(found, conditions.HEALTHY, "True", "Succeeded", run.health, generation, now)
    else:
        found = conditions.drop(found, conditions.HEALTHY)
    message = f"Applied revision: {run.revision}"
    found = _put(found, conditions.READY, "True", "ReconciliationSucceeded", message, generation, now)
    status["conditions"] = found
    status["observedGeneration"] = generation
    status["lastAppliedRevision"] = run.revision
    _set(status, "lastAppliedOriginRevision", run.origin)
    status["history"] = _history(status, run, "ReconciliationSucceeded", now)
    finished = (
        f"Reconciliation finished in {durations.show(round(run.seconds, 6))}, "
        f"next run in {durations.show(pace.interval)}"
    )
    about = {**annotations_of(run), meta.COMMIT_STATUS: meta.COMMIT_STATUS_UPDATE}
    told.append(Note("Normal", "ReconciliationSucceeded", finished, about))
    return Conclusion(status, tuple(merged(told)), pace.interval)


def _failed(
    obj: Mapping[str, Any],
    status: JSON,
    run: Run,
    error: GitwrightError,
    told: list[Note],
    pace: Pace,
    now: str,
) -> Conclusion:
    generation = int(obj["metadata"].get("generation") or 0)
    old = conditions.get(status.get("conditions") or [], conditions.READY) or {}
    message = _error_text(run, error)
    found = status.get("conditions") or []
    if run.stage:
        text = stage_text(run)
        found = _put(found, conditions.RECONCILING, "True", "ProgressingWithRetry", text, generation, now)
    found = _put(found, conditions.READY, "False", error.reason, message, generation, now)
    if error.reason == "HealthCheckFailed":
        unhealthy = message.partition(": ")[2]
        found = _put(found, conditions.HEALTHY, "False", error.reason, unhealthy, generation, now)
    stalled = isinstance(error, Stalled | Denied) and error.reason in TERMINAL
    if stalled:
        found = conditions.drop(found, conditions.RECONCILING)
        found = _put(found, conditions.STALLED, "True", error.reason, message, generation, now)
        status["observedGeneration"] = generation
    else:
        found = conditions.drop(found, conditions.STALLED)
    status["conditions"] = found
    if run.digest and error.reason in ("ReconciliationFailed", "PruneFailed", "HealthCheckFailed"):
        status["history"] = _history(status, run, error.reason, now)
    fresh = (old.get("reason"), old.get("message"), old.get("status")) != (error.reason, message, "False")
    requested = (obj["metadata"].get("annotations") or {}).get(meta.REQUESTED_AT)
    fresh = fresh or requested != (obj.get("status") or {}).get("lastHandledReconcileAt")
    if fresh:
        told += _failure_notes(run, error, message, pace)
    return Conclusion(status, tuple(told), _retry(error, pace, stalled=stalled), False)


def unforeseen(error: Exception, reason: str) -> Transient:
    """Word an error that nobody foresaw, so that the object does not look well meanwhile (S13).

    Args:
        error: what was raised; its text is for the log alone, since nobody knows what is in it.
        reason: the condition's reason.
    """
    return Transient(
        f"unforeseen error: {type(error).__name__}",
        reason=reason,
        hint="the log of gitwright tells where; please report it",
    )


# Reasons after which only a change of the object can help. Source: spec/flux-v2.md 3.2.
TERMINAL = frozenset({"AccessDenied", "InvalidCELExpression", "FeatureGateDisabled", "InvalidSpec"})


def _retry(error: GitwrightError, pace: Pace, *, stalled: bool) -> float | None:
    if stalled:
        return None
    if error.retry_after is not None:
        return error.retry_after
    return pace.dependency if isinstance(error, Waiting) else pace.retry


def _error_text(run: Run, error: GitwrightError) -> str:
    if error.reason != "ReconciliationFailed":
        return str(error)
    # Flux ends the text with the log of what was applied before the refusal, even when
    # that is empty: people match on the newline. Source: spec/flux-v2.md 3.2.
    head = error.message.rstrip("\n")
    more = str(error)[len(error.message) :].strip("\n")
    return f"{head}\n" + "\n".join([*run.applied, *([more] if more else [])])


def _failure_notes(run: Run, error: GitwrightError, message: str, pace: Pace) -> list[Note]:
    about = annotations_of(run)
    if error.reason == "DependencyNotReady":
        text = f"Dependencies do not meet ready condition, retrying in {durations.show(pace.dependency)}"
        return [Note("Normal", error.reason, f"{text}\n{message}", about)]
    if isinstance(error, Waiting):
        # Flux tells nothing of a source that is not there yet; the condition says it.
        return []
    return [Note("Warning", error.reason, message, about)]


def merged(notes: Sequence[Note]) -> list[Note]:
    """Put the Progressing lines of one run into one event, which costs one request."""
    lines = [note for note in notes if note.reason == "Progressing" and note.kind == "Normal"]
    if len(lines) < 2:
        return list(notes)
    joined = Note("Normal", "Progressing", "\n".join(note.message for note in lines), lines[0].annotations)
    return [joined, *(note for note in notes if note not in lines)]


def _history(status: Mapping[str, Any], run: Run, outcome: str, now: str) -> list[JSON]:
    """Upsert the history by digest and outcome, newest first.

    Source: spec/flux-v2.md 3.2, `history[]`.
    """
    entries = [dict(entry) for entry in status.get("history") or []]
    metadata = {"revision": run.revision}
    if run.origin:
        metadata["originRevision"] = run.origin
    same = next(
        (e for e in entries if e.get("digest") == run.digest and e.get("lastReconciledStatus") == outcome),
        None,
    )
    entry: JSON = {
        "digest": run.digest,
        "firstReconciled": same["firstReconciled"] if same else now,
        "lastReconciled": now,
        "lastReconciledDuration": durations.show(round(run.seconds, 6)),
        "lastReconciledStatus": outcome,
        "metadata": metadata,
        "totalReconciliations": int(same["totalReconciliations"]) + 1 if same else 1,
    }
    return [entry, *(other for other in entries if other is not same)][:HISTORY]


def conclude_source(
    obj: Mapping[str, Any],
    *,
    artifact: JSON | None,
    observed: Mapping[str, Any],
    error: GitwrightError | None,
    subject: str,
    pace: Pace,
    now: str,
) -> Conclusion:
    """Turn the outcome of a run of a GitRepository into its new state.

    Args:
        obj: the GitRepository as it was when the run began.
        artifact: the `status.artifact` to show; None keeps the old one after a failure.
        observed: further `status.observed*` fields to set, None to remove.
        error: what the run raised, or None.
        subject: first line of the commit, for the event of a new artifact.
        pace: when to come back.
        now: RFC 3339 time.

    Source: spec/flux-v2.md 2.0 and 2.1.
    """
    status = dict(obj.get("status") or {})
    requested = (obj["metadata"].get("annotations") or {}).get(meta.REQUESTED_AT)
    if requested:
        status["lastHandledReconcileAt"] = requested
    if error is not None:
        return _source_failed(obj, status, error, pace, now)
    generation = int(obj["metadata"].get("generation") or 0)
    old = status.get("artifact") or {}
    failed = conditions.is_true(status.get("conditions") or [], "FetchFailed")
    found = conditions.drop(
        status.get("conditions") or [],
        conditions.RECONCILING,
        conditions.STALLED,
        "FetchFailed",
        "StorageOperationFailed",
        "ArtifactOutdated",
    )
    new = artifact or {}
    message = f"stored artifact for revision '{new.get('revision', '')}'"
    found = _put(found, "ArtifactInStorage", "True", "Succeeded", message, generation, now)
    found = _put(found, conditions.READY, "True", "Succeeded", message, generation, now)
    status["conditions"] = found
    status["observedGeneration"] = generation
    status["artifact"] = new
    for name, value in observed.items():
        _set(status, name, value)
    notes: tuple[Note, ...] = ()
    about = {
        meta.SOURCE_REVISION: str(new.get("revision") or ""),
        meta.SOURCE_DIGEST: str(new.get("digest") or ""),
    }
    text = f"stored artifact for commit '{subject}'"
    if old.get("digest") != new.get("digest"):
        notes = (Note("Normal", "NewArtifact", text, about),)
    elif failed:
        notes = (Note("Normal", "Succeeded", text, about),)
    return Conclusion(status, notes, pace.interval)


def source_progress(obj: Mapping[str, Any], now: str) -> JSON:
    """Give the status of a GitRepository whose new generation is being worked on."""
    status = dict(obj.get("status") or {})
    generation = int(obj["metadata"].get("generation") or 0)
    message = source_progress_text(obj)
    found = _put(
        status.get("conditions") or [],
        conditions.RECONCILING,
        "True",
        "Progressing",
        message,
        generation,
        now,
    )
    status["conditions"] = _put(found, conditions.READY, "Unknown", "Progressing", message, generation, now)
    return status


def source_progress_text(obj: Mapping[str, Any]) -> str:
    """Give Flux's message of the Reconciling condition of a source."""
    observed = (obj.get("status") or {}).get("observedGeneration", -1)
    generation = obj["metadata"].get("generation")
    if observed != generation:
        return f"processing object: new generation {observed} -> {generation}"
    return "reconciliation in progress"


def _source_failed(
    obj: Mapping[str, Any], status: JSON, error: GitwrightError, pace: Pace, now: str
) -> Conclusion:
    generation = int(obj["metadata"].get("generation") or 0)
    old = conditions.get(status.get("conditions") or [], conditions.READY) or {}
    message = str(error)
    found = status.get("conditions") or []
    stalled = isinstance(error, Stalled | Denied)
    if stalled:
        found = conditions.drop(found, conditions.RECONCILING)
        found = _put(found, conditions.STALLED, "True", error.reason, message, generation, now)
        status["observedGeneration"] = generation
    else:
        text = source_progress_text(obj)
        found = conditions.drop(found, conditions.STALLED)
        found = _put(found, conditions.RECONCILING, "True", "ProgressingWithRetry", text, generation, now)
    found = _put(found, "FetchFailed", "True", error.reason, message, generation, now)
    status["conditions"] = _put(found, conditions.READY, "False", error.reason, message, generation, now)
    requested = (obj["metadata"].get("annotations") or {}).get(meta.REQUESTED_AT)
    fresh = (old.get("reason"), old.get("message"), old.get("status")) != (error.reason, message, "False")
    fresh = fresh or requested != (obj.get("status") or {}).get("lastHandledReconcileAt")
    notes = (Note("Warning", error.reason, message, {}),) if fresh else ()
    # A source whose error a person must mend is still looked at each interval: the
    # credentials it names may be mended without a change of the object itself.
    return Conclusion(status, notes, pace.interval if stalled else None, backoff=not stalled)


def status_patch(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> JSON | None:
    """Give the JSON merge patch that turns one status into another, or None when equal."""
    before = old or {}
    patch: JSON = {name: None for name in before if name not in new}
    for name, value in new.items():
        if name not in before:
            patch[name] = value
        elif before[name] != value:
            inner = isinstance(value, dict) and isinstance(before[name], dict)
            patch[name] = status_patch(before[name], value) if inner else value
    return patch or None


def _put(
    found: Sequence[Mapping[str, Any]],
    kind: str,
    status: str,
    reason: str,
    message: str,
    generation: int,
    now: str,
) -> list[conditions.Condition]:
    return conditions.put(found, kind, status, reason, message, generation=generation, now=now)


def _set(status: JSON, name: str, value: Any) -> None:
    if value:
        status[name] = value
    else:
        status.pop(name, None)
