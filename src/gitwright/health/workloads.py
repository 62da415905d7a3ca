"""Health of the kinds that run pods: Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, Pod.

Role in the flow: the rules of `health.rules`, one function per kind. Knows one object at
a time; only `pods_have_failed` looks at the pods of a controller.

Source: kstatus of fluxcd/cli-utils; fluxcd/pkg runtime/statusreaders for Jobs.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from gitwright.core.objects import JSON
from gitwright.health.model import (
    Condition,
    Health,
    Unreadable,
    because,
    conditions,
    current,
    failed,
    find,
    generation,
    in_progress,
    number,
    said,
    text,
)

# The deployment controller takes this value of progressDeadlineSeconds for "none".
_NO_DEADLINE = 2**31 - 1
# Seconds a pod may stay unscheduled before that counts as a failure.
_SCHEDULE_WINDOW = 15.0


def deployment(obj: JSON) -> Health:
    """Judge a Deployment: its progress deadline, then its counters, then its conditions."""
    items = conditions(obj)
    done = number(obj, "spec", "progressDeadlineSeconds", default=_NO_DEADLINE) == _NO_DEADLINE
    available = False
    for item in items:
        if item.type == "Progressing":
            if item.reason == "ProgressDeadlineExceeded":
                cause = said(items, "ReplicaFailure", "True") or item.message
                return failed(because("progress deadline exceeded", cause))
            done = done or (item.status == "True" and item.reason == "NewReplicaSetAvailable")
        elif item.type == "Available":
            available = available or item.status == "True"
    missing = _deployment_counters(obj)
    if missing:
        return in_progress(because(missing, said(items, "ReplicaFailure", "True")))
    if not done:
        return in_progress("the new ReplicaSet is not available yet")
    if not available:
        return in_progress(because("the Deployment is not available", said(items, "Available", "False")))
    return current(f"{number(obj, 'status', 'replicas')} replicas available")


def _deployment_counters(obj: JSON) -> str:
    wanted = number(obj, "spec", "replicas", default=1)
    replicas = number(obj, "status", "replicas")
    updated = number(obj, "status", "updatedReplicas")
    available = number(obj, "status", "availableReplicas")
    ready = number(obj, "status", "readyReplicas")
    if wanted > replicas:
        return f"{replicas} of {wanted} replicas created"
    if wanted > updated:
        return f"{updated} of {wanted} replicas updated"
    if replicas > wanted:
        return f"{replicas - wanted} old replicas still to be terminated"
    if updated > available:
        return f"{available} of {updated} updated replicas available"
    if wanted > ready:
        return f"{ready} of {wanted} replicas ready"
    return ""


def stateful_set(obj: JSON) -> Health:
    """Judge a StatefulSet by its counters and revisions; it never says that it failed."""
    if text(obj, "spec", "updateStrategy", "type") == "OnDelete":
        return current("the update strategy OnDelete leaves updates to people")
    wanted = number(obj, "spec", "replicas", default=1)
    replicas = number(obj, "status", "replicas")
    ready = number(obj, "status", "readyReplicas")
    updated = number(obj, "status", "updatedReplicas")
    partition = number(obj, "spec", "updateStrategy", "rollingUpdate", "partition", default=-1)
    if wanted > replicas:
        return in_progress(f"{replicas} of {wanted} replicas created")
    if wanted > ready:
        return in_progress(f"{ready} of {wanted} replicas ready")
    if replicas > wanted:
        return in_progress(f"{replicas - wanted} replicas still to be terminated")
    if partition != -1:
        if updated < wanted - partition:
            return in_progress(f"{updated} of {wanted - partition} replicas beyond the partition updated")
        return current(f"partition rolled out, {updated} replicas updated")
    if wanted > number(obj, "status", "currentReplicas"):
        return in_progress(f"{number(obj, 'status', 'currentReplicas')} of {wanted} replicas up to date")
    if text(obj, "status", "currentRevision") != text(obj, "status", "updateRevision"):
        return in_progress("the updated revision is not the current one yet")
    return current(f"{replicas} replicas ready")


def replica_set(obj: JSON) -> Health:
    """Judge a ReplicaSet by its failure condition and its counters."""
    items = conditions(obj)
    if any(item.type == "ReplicaFailure" and item.status == "True" for item in items):
        return in_progress(because("pods cannot be created", said(items, "ReplicaFailure", "True")))
    wanted = number(obj, "spec", "replicas", default=1)
    for field, word in (
        ("fullyLabeledReplicas", "labelled"),
        ("availableReplicas", "available"),
        ("readyReplicas", "ready"),
    ):
        count = number(obj, "status", field)
        if wanted > count:
            return in_progress(f"{count} of {wanted} replicas {word}")
    replicas = number(obj, "status", "replicas")
    if replicas > wanted:
        return in_progress(f"{replicas - wanted} replicas still to be terminated")
    return current(f"{replicas} replicas available")


def daemon_set(obj: JSON) -> Health:
    """Judge a DaemonSet by its counters, once its controller has seen it."""
    for path in (("metadata", "generation"), ("status", "observedGeneration")):
        if generation(obj, *path) is None:
            return in_progress(f"{'.'.join(path)} is not set yet")
    wanted = number(obj, "status", "desiredNumberScheduled", default=-1)
    if wanted == -1:
        return in_progress("the number of nodes to run on is not known yet")
    for field, word in (
        ("currentNumberScheduled", "scheduled"),
        ("updatedNumberScheduled", "updated"),
        ("numberAvailable", "available"),
        ("numberReady", "ready"),
    ):
        count = number(obj, "status", field)
        if wanted > count:
            return in_progress(f"{count} of {wanted} pods {word}")
    return current(f"{wanted} pods ready")


def job(obj: JSON) -> Health:
    """Judge a Job: Flux waits until it is complete, where kstatus alone is content with a start."""
    if find(obj, "spec", "suspend") is True:
        return current("the Job is suspended")
    wanted = number(obj, "spec", "completions", default=number(obj, "spec", "parallelism", default=1))
    succeeded, lost = number(obj, "status", "succeeded"), number(obj, "status", "failed")
    for item in conditions(obj):
        if item.type == "Complete" and item.status == "True":
            return current(f"{succeeded} of {wanted} completions")
        if item.type == "Failed" and item.status == "True":
            return failed(because(f"the Job failed, {lost} pods lost", item.message))
    if not text(obj, "status", "startTime"):
        return in_progress("the Job has not started")
    active = number(obj, "status", "active")
    return in_progress(f"{succeeded} of {wanted} completions, {active} pods active, {lost} lost")


def pod(obj: JSON, now: str | None) -> Health:
    """Judge a Pod by its phase.

    Args:
        obj: the Pod.
        now: RFC 3339 time; without it an unschedulable Pod is never called failed.
    """
    items = conditions(obj)
    phase = text(obj, "status", "phase")
    if phase == "Succeeded":
        return current("the Pod has completed")
    if phase == "Failed":
        # kstatus: nothing more will happen to it, so nobody need wait.
        return current(because("the Pod has completed, but not successfully", text(obj, "status", "message")))
    if phase == "Running":
        return _running(obj, items)
    if phase == "Pending":
        return _pending(obj, items, now)
    if phase:
        raise Unreadable(f"unknown phase {phase}")
    return in_progress("no node has reported the Pod yet")


def _running(obj: JSON, items: list[Condition]) -> Health:
    if any(item.type == "Ready" and item.status == "True" for item in items):
        return current("the Pod is ready")
    looping = crash_looping(obj)
    if looping:
        return failed(f"containers crash again and again: {', '.join(looping)}")
    return in_progress(because("the Pod runs but is not ready", said(items, "Ready", "False")))


def _pending(obj: JSON, items: list[Condition], now: str | None) -> Health:
    cause = _unschedulable(items)
    if cause is None:
        waiting = [
            because(text(item, "state", "waiting", "reason"), text(item, "state", "waiting", "message"))
            for item in find(obj, "status", "containerStatuses") or ()
            if text(item, "state", "waiting", "reason")
        ]
        return in_progress(because("the Pod is pending", "; ".join(waiting)))
    left = _SCHEDULE_WINDOW - _age(obj, now) if now is not None else _SCHEDULE_WINDOW
    if left > 0:
        return Health("InProgress", because("the Pod is not scheduled yet", cause), again_in=left)
    return failed(because("the Pod cannot be scheduled", cause))


def _unschedulable(items: list[Condition]) -> str | None:
    found = next((item for item in items if item.type == "PodScheduled" and item.status == "False"), None)
    return found.message if found is not None and found.reason == "Unschedulable" else None


def _age(obj: JSON, now: str | None) -> float:
    try:
        made = datetime.fromisoformat(text(obj, "metadata", "creationTimestamp"))
        return (datetime.fromisoformat(now or "") - made).total_seconds()
    except (ValueError, TypeError):
        return _SCHEDULE_WINDOW


def crash_looping(obj: JSON) -> list[str]:
    """Give the names of a Pod's containers that crash again and again."""
    return [
        text(item, "name")
        for item in find(obj, "status", "containerStatuses") or ()
        if text(item, "state", "waiting", "reason") == "CrashLoopBackOff"
    ]


def pods_have_failed(health: Health, pods: Iterable[JSON], now: str | None) -> Health:
    """Call a StatefulSet or ReplicaSet failed whose pods have failed for good.

    Pods that are being deleted or wait for a node do not count. Flux looks at pods for these
    two kinds only, and only while they are in progress.

    Args:
        health: what the controller itself shows.
        pods: its pods.
        now: RFC 3339 time.
    """
    if health.status != "InProgress":
        return health
    lost = [item for item in pods if _lost(item, now)]
    if not lost:
        return health
    names = ", ".join(sorted(text(item, "metadata", "name") for item in lost))
    return failed(f"{len(lost)} pods have failed: {names}")


def _lost(item: JSON, now: str | None) -> bool:
    if find(item, "metadata", "deletionTimestamp"):
        return False
    try:
        return _unschedulable(conditions(item)) is None and pod(item, now).status == "Failed"
    except Unreadable:
        return False


def is_controller_of_pods(kind: Any) -> bool:
    """Tell whether Flux judges a kind of the group `apps` by its pods too."""
    return kind in ("StatefulSet", "ReplicaSet")
