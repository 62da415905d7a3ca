"""`health`: a row per kind and state, and the expressions of custom resources."""

from __future__ import annotations

from typing import Any

import pytest

from gitwright.core.errors import Stalled
from gitwright.core.objects import JSON, GroupKind
from gitwright.health import Expressions, Health, assess


def _obj(kind: str, *, spec: Any = None, status: Any = None, **metadata: Any) -> JSON:
    api_version, _, name = kind.rpartition(" ")
    obj: JSON = {"apiVersion": api_version, "kind": name, "metadata": {"name": "x", **metadata}}
    if spec is not None:
        obj["spec"] = spec
    if status is not None:
        obj["status"] = status
    return obj


def _condition(kind: str, status: str = "True", reason: str = "", message: str = "") -> JSON:
    return {"type": kind, "status": status, "reason": reason, "message": message}


_PROGRESSED = _condition("Progressing", reason="NewReplicaSetAvailable")
_DEADLINE = _condition("Progressing", "False", "ProgressDeadlineExceeded", "web-1 timed out")
_QUOTA = _condition("ReplicaFailure", message="exceeded quota: pods")


def _counters(**changes: int) -> JSON:
    usual = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 2)
    return {**usual, **changes}


def _deployment(*conditions: JSON, **changes: int) -> JSON:
    status = {**_counters(**changes), "conditions": list(conditions)}
    return _obj("apps/v1 Deployment", spec={"replicas": 2, "progressDeadlineSeconds": 600}, status=status)


def _stateful_set(spec: JSON, **changes: Any) -> JSON:
    status = {**_counters(), "currentReplicas": 2, "currentRevision": "a", "updateRevision": "a", **changes}
    return _obj("apps/v1 StatefulSet", spec={"replicas": 2, **spec}, status=status)


def _partition(partition: int) -> JSON:
    return {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}}


def _daemon_set(**changes: Any) -> JSON:
    names = ("desired", "current", "updated")
    status: JSON = {f"{name}NumberScheduled": 3 for name in names}
    status |= {"numberAvailable": 3, "numberReady": 3, "observedGeneration": 1, **changes}
    status = {name: value for name, value in status.items() if value is not None}
    return _obj("apps/v1 DaemonSet", status=status, generation=1)


def _replica_set(*conditions: JSON, **changes: int) -> JSON:
    status = {**_counters(), "fullyLabeledReplicas": 2, "conditions": list(conditions), **changes}
    return _obj("apps/v1 ReplicaSet", spec={"replicas": 2}, status=status)


def _job(spec: JSON | None = None, *conditions: JSON, **status: Any) -> JSON:
    return _obj("batch/v1 Job", spec=spec or {}, status={"conditions": list(conditions), **status})


def _pod(phase: str, *conditions: JSON, waiting: str = "", **metadata: Any) -> JSON:
    status: JSON = {"phase": phase, "conditions": list(conditions)}
    if waiting:
        status["containerStatuses"] = [{"name": "web", "state": {"waiting": {"reason": waiting}}}]
    return _obj("v1 Pod", status=status, **metadata)


def _definition(*conditions: JSON) -> JSON:
    kind = "apiextensions.k8s.io/v1 CustomResourceDefinition"
    return _obj(kind, status={"conditions": list(conditions)})


def _widget(status: Any = None, **metadata: Any) -> JSON:
    return _obj("example.org/v1 Widget", status=status, **metadata)


_NO_NODE = _condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available")

ROWS: list[tuple[str, JSON | None, str, str]] = [
    ("missing", None, "NotFound", "does not exist"),
    # Deployment
    ("deployment fine", _deployment(_PROGRESSED, _condition("Available")), "Current", "2 replicas"),
    ("deployment fresh", _obj("apps/v1 Deployment"), "InProgress", "0 of 1 replicas created"),
    ("deployment creates", _deployment(replicas=1), "InProgress", "1 of 2 replicas created"),
    ("deployment lacks quota", _deployment(_QUOTA, replicas=1), "InProgress", "exceeded quota"),
    ("deployment updates", _deployment(updatedReplicas=1), "InProgress", "1 of 2 replicas updated"),
    ("deployment sheds", _deployment(replicas=3), "InProgress", "1 old replicas still to be terminated"),
    ("deployment not available", _deployment(availableReplicas=1), "InProgress", "1 of 2 updated replicas"),
    ("deployment not ready", _deployment(readyReplicas=1), "InProgress", "1 of 2 replicas ready"),
    ("deployment set not available", _deployment(_condition("Available")), "InProgress", "new ReplicaSet"),
    (
        "deployment says not available",
        _deployment(_PROGRESSED, _condition("Available", "False", message="minimum not reached")),
        "InProgress",
        "minimum not reached",
    ),
    ("deployment too late", _deployment(_DEADLINE), "Failed", "progress deadline exceeded: web-1 timed out"),
    ("deployment too late by quota", _deployment(_DEADLINE, _QUOTA), "Failed", "exceeded quota: pods"),
    (
        "deployment without deadline",
        _obj(
            "apps/v1 Deployment",
            spec={"replicas": 0, "progressDeadlineSeconds": 2**31 - 1},
            status={"conditions": [_condition("Available")]},
        ),
        "Current",
        "0 replicas",
    ),
    ("old deployment", _obj("extensions/v1beta1 Deployment"), "InProgress", "0 of 1 replicas created"),
    # StatefulSet
    ("stateful fine", _stateful_set({}), "Current", "2 replicas ready"),
    ("stateful on delete", _stateful_set({"updateStrategy": {"type": "OnDelete"}}), "Current", "OnDelete"),
    ("stateful creates", _stateful_set({}, replicas=1), "InProgress", "1 of 2 replicas created"),
    ("stateful not ready", _stateful_set({}, readyReplicas=0), "InProgress", "0 of 2 replicas ready"),
    ("stateful sheds", _stateful_set({}, replicas=4), "InProgress", "2 replicas still to be terminated"),
    ("stateful partition", _stateful_set(_partition(0), updatedReplicas=1), "InProgress", "1 of 2 replicas"),
    ("stateful partition done", _stateful_set(_partition(1), updatedReplicas=1), "Current", "partition"),
    ("stateful rolls", _stateful_set({}, currentReplicas=1), "InProgress", "1 of 2 replicas up to date"),
    ("stateful revisions", _stateful_set({}, updateRevision="b"), "InProgress", "revision"),
    # DaemonSet
    ("daemon fine", _daemon_set(), "Current", "3 pods ready"),
    ("daemon unseen", _daemon_set(observedGeneration=None), "InProgress", "status.observedGeneration"),
    ("daemon without generation", _obj("apps/v1 DaemonSet"), "InProgress", "metadata.generation"),
    ("daemon unknown nodes", _daemon_set(desiredNumberScheduled=None), "InProgress", "number of nodes"),
    ("daemon schedules", _daemon_set(currentNumberScheduled=1), "InProgress", "1 of 3 pods scheduled"),
    ("daemon updates", _daemon_set(updatedNumberScheduled=1), "InProgress", "1 of 3 pods updated"),
    ("daemon not available", _daemon_set(numberAvailable=1), "InProgress", "1 of 3 pods available"),
    ("daemon not ready", _daemon_set(numberReady=1), "InProgress", "1 of 3 pods ready"),
    # ReplicaSet
    ("replicas fine", _replica_set(), "Current", "2 replicas available"),
    ("replicas fail", _replica_set(_QUOTA), "InProgress", "pods cannot be created: exceeded quota"),
    ("replicas unlabelled", _replica_set(fullyLabeledReplicas=1), "InProgress", "1 of 2 replicas labelled"),
    ("replicas not available", _replica_set(availableReplicas=0), "InProgress", "0 of 2 replicas available"),
    ("replicas not ready", _replica_set(readyReplicas=0), "InProgress", "0 of 2 replicas ready"),
    ("replicas shed", _replica_set(replicas=3), "InProgress", "1 replicas still to be terminated"),
    # Job and CronJob
    ("job suspended", _job({"suspend": True}), "Current", "suspended"),
    ("job new", _job(), "InProgress", "has not started"),
    ("job runs", _job({"completions": 2}, startTime="t", active=1), "InProgress", "0 of 2 completions"),
    ("job complete", _job({}, _condition("Complete"), succeeded=1), "Current", "1 of 1 completions"),
    ("job lost", _job({}, _condition("Failed", message="BackoffLimit"), failed=3), "Failed", "BackoffLimit"),
    ("job not lost", _job({}, _condition("Failed", "False"), startTime="t"), "InProgress", "0 of 1"),
    ("job by parallelism", _job({"parallelism": 4}, startTime="t"), "InProgress", "0 of 4"),
    (
        "job with an unseen generation is judged by its conditions",
        _obj(
            "batch/v1 Job",
            status={"observedGeneration": 1, "conditions": [_condition("Complete")]},
            generation=2,
        ),
        "Current",
        "completions",
    ),
    ("cron job", _obj("batch/v1 CronJob"), "Current", "ready at once"),
    # Pod
    ("pod done", _pod("Succeeded"), "Current", "completed"),
    ("pod done badly", _pod("Failed"), "Current", "not successfully"),
    ("pod ready", _pod("Running", _condition("Ready")), "Current", "ready"),
    (
        "pod not ready",
        _pod("Running", _condition("Ready", "False", message="probe failed")),
        "InProgress",
        "probe failed",
    ),
    ("pod crashes", _pod("Running", waiting="CrashLoopBackOff"), "Failed", "crash again and again: web"),
    ("pod pending", _pod("Pending", waiting="ImagePullBackOff"), "InProgress", "ImagePullBackOff"),
    ("pod unseen", _obj("v1 Pod"), "InProgress", "no node"),
    ("pod odd", _pod("Odd"), "Unknown", "unknown phase Odd"),
    # others
    ("claim bound", _obj("v1 PersistentVolumeClaim", status={"phase": "Bound"}), "Current", "bound"),
    ("claim pending", _obj("v1 PersistentVolumeClaim", status={"phase": "Pending"}), "InProgress", "Pending"),
    ("claim new", _obj("v1 PersistentVolumeClaim"), "InProgress", "unknown"),
    ("service", _obj("v1 Service", spec={}), "Current", "ready"),
    ("balancer pending", _obj("v1 Service", spec={"type": "LoadBalancer"}), "InProgress", "cluster IP"),
    (
        "balancer",
        _obj("v1 Service", spec={"type": "LoadBalancer", "clusterIP": "10.0.0.1"}),
        "Current",
        "ready",
    ),
    ("config map", _obj("v1 ConfigMap"), "Current", "at once"),
    ("secret", _obj("v1 Secret"), "Current", "at once"),
    ("budget", _obj("policy/v1 PodDisruptionBudget"), "Current", "computed"),
    (
        "budget unseen",
        _obj("policy/v1 PodDisruptionBudget", status={"observedGeneration": 1}, generation=2),
        "InProgress",
        "generation 2 is not observed yet (latest: 1)",
    ),
    ("definition established", _definition(_condition("Established")), "Current", "established"),
    ("definition new", _definition(), "InProgress", "being installed"),
    (
        "definition installs",
        _definition(_condition("Established", "False", "Installing")),
        "InProgress",
        "being installed",
    ),
    (
        "definition refused",
        _definition(_condition("NamesAccepted", "False", "Conflict", "widgets is taken")),
        "Failed",
        "widgets is taken",
    ),
    (
        "definition not established",
        _definition(_condition("Established", "False", "NotAccepted", "no names")),
        "Failed",
        "no names",
    ),
    ("namespace", _obj("v1 Namespace", status={"phase": "Active"}), "Current", "exists"),
    (
        "namespace going",
        _obj("v1 Namespace", deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["example.org/f"]),
        "Terminating",
        "waits for example.org/f",
    ),
    # what holds for all kinds
    ("plain", _widget(), "Current", "exists"),
    ("ready", _widget({"conditions": [_condition("Ready", message="all up")]}), "Current", "all up"),
    (
        "not ready",
        _widget({"conditions": [_condition("Ready", "False", message="no disk")]}),
        "InProgress",
        "no disk",
    ),
    (
        "ready unknown",
        _widget({"conditions": [_condition("Ready", "Unknown", "Probing")]}),
        "InProgress",
        "Probing",
    ),
    ("ready odd", _widget({"conditions": [_condition("Ready", "Perhaps")]}), "Current", "exists"),
    (
        "reconciling wins over ready",
        _widget({"conditions": [_condition("Ready"), _condition("Reconciling", message="moving")]}),
        "InProgress",
        "moving",
    ),
    ("stalled", _widget({"conditions": [_condition("Stalled", message="stuck")]}), "Failed", "stuck"),
    ("unseen", _widget({"observedGeneration": 3}, generation=4), "InProgress", "generation 4"),
    ("seen", _widget({"observedGeneration": 4}, generation=4), "Current", "exists"),
    ("odd generation", _widget({"observedGeneration": "4"}, generation=4), "Unknown", "not a whole number"),
    ("odd conditions", _widget({"conditions": {}}), "Unknown", "not a list"),
    ("odd condition", _widget({"conditions": [{"type": 1}]}), "Unknown", "type is not a text"),
    ("odd status", _widget("fine"), "Unknown", "not a map"),
    ("nothing at all", {}, "Current", "exists"),
]


@pytest.mark.parametrize(("obj", "status", "cause"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_state_of_a_kind_has_its_status_and_says_why(obj: JSON | None, status: str, cause: str) -> None:
    """Each state is judged as kstatus in Flux judges it, and the message names the cause."""
    health = assess(obj)
    assert (health.status, cause in health.message) == (status, True), health
    assert health.ready is (status == "Current")


@pytest.mark.parametrize(
    ("now", "status", "again_in"),
    [
        ("2026-01-01T00:00:05Z", "InProgress", 10.0),
        ("2026-01-01T00:00:20Z", "Failed", None),
        (None, "InProgress", 15.0),
    ],
)
def test_an_unschedulable_pod_has_fifteen_seconds(
    now: str | None, status: str, again_in: float | None
) -> None:
    """Within 15 s of its creation a Pod without a node is in progress and says when to look again."""
    pod = _pod("Pending", _NO_NODE, creationTimestamp="2026-01-01T00:00:00Z")
    health = assess(pod, now=now)
    assert (health.status, health.again_in) == (status, again_in)
    assert "0/3 nodes are available" in health.message


@pytest.mark.parametrize(
    ("controller", "pod", "status"),
    [
        (_stateful_set({}, readyReplicas=1), _pod("Running", waiting="CrashLoopBackOff"), "Failed"),
        (_replica_set(readyReplicas=1), _pod("Running", waiting="CrashLoopBackOff"), "Failed"),
        (_deployment(readyReplicas=1), _pod("Running", waiting="CrashLoopBackOff"), "InProgress"),
        (_stateful_set({}), _pod("Running", waiting="CrashLoopBackOff"), "Current"),
        (_stateful_set({}, readyReplicas=1), _pod("Running"), "InProgress"),
        (_stateful_set({}, readyReplicas=1), _pod("Pending", _NO_NODE), "InProgress"),
        (_stateful_set({}, readyReplicas=1), _pod("Odd"), "InProgress"),
        (
            _stateful_set({}, readyReplicas=1),
            _pod("Running", waiting="CrashLoopBackOff", deletionTimestamp="2026-01-01T00:00:00Z"),
            "InProgress",
        ),
    ],
)
def test_pods_that_failed_for_good_fail_their_controller(controller: JSON, pod: JSON, status: str) -> None:
    """Only for StatefulSets and ReplicaSets in progress; pods that go or wait for a node do not count."""
    assert assess(controller, now="2026-06-01T00:00:00Z", pods=[pod]).status == status


_PHASES = {
    "apiVersion": "example.org/v1beta7",
    "kind": "Widget",
    "current": "status.phase == 'Ready'",
    "failed": "status.phase == 'Broken'",
    "inProgress": "status.phase == 'Pending'",
}


@pytest.mark.parametrize(
    ("phase", "status"),
    [("Ready", "Current"), ("Broken", "Failed"), ("Pending", "InProgress"), ("Other", "InProgress")],
)
def test_expressions_judge_by_group_and_kind(phase: str, status: str) -> None:
    """The version of an item does not count; where no expression is true, the object is in progress."""
    expressions = Expressions.compile([_PHASES])
    assert assess(_widget({"phase": phase}), expressions).status == status


def test_an_expression_that_cannot_be_evaluated_gives_unknown_with_its_message() -> None:
    """The first in the order in progress, failed, current is the one that is named, as Flux does."""
    health = assess(_widget(), Expressions.compile([_PHASES]))
    assert health == Health(
        "Unknown",
        "failed to evaluate the CEL expression 'status.phase == 'Pending'': "
        "no such attribute(s): status.phase",
    )


@pytest.mark.parametrize(
    ("true", "status"),
    [
        ({"inProgress", "failed", "current"}, "InProgress"),
        ({"failed", "current"}, "Failed"),
        ({"current"}, "Current"),
        (set(), "InProgress"),
    ],
)
def test_progress_comes_before_failure_before_success(true: set[str], status: str) -> None:
    """Where several expressions are true the first in this order decides."""
    names = ("inProgress", "failed", "current")
    check = {"apiVersion": "example.org/v1", "kind": "Widget"} | {
        name: str(name in true).lower() for name in names
    }
    assert assess(_widget(), Expressions.compile([check])).status == status


def test_an_unseen_generation_comes_before_the_expressions() -> None:
    """A whole-numbered generation that differs is in progress; the expressions judge any other type."""
    expressions = Expressions.compile([{"apiVersion": "example.org/v1", "kind": "Widget", "current": "true"}])
    assert assess(_widget({"observedGeneration": 1}, generation=2), expressions).status == "InProgress"
    assert assess(_widget({"observedGeneration": "1"}, generation=2), expressions).status == "Current"


def test_a_kind_of_its_own_wins_over_its_group() -> None:
    """An empty kind stands for the group, and neither reaches another group."""
    group = {"apiVersion": "example.org/v1", "current": "true"}
    kind = {"apiVersion": "example.org/v1", "kind": "Widget", "current": "false"}
    expressions = Expressions.compile([group, kind])
    assert assess(_widget(), expressions).status == "InProgress"
    assert assess(_obj("example.org/v1 Gadget"), expressions).status == "Current"
    assert expressions.covers(GroupKind("example.org", "Anything"))
    assert not expressions.covers(GroupKind("other.example.org", "Widget"))


def test_jobs_are_judged_by_their_own_rule() -> None:
    """As in Flux, expressions for Jobs are not asked."""
    expressions = Expressions.compile([{"apiVersion": "batch/v1", "kind": "Job", "current": "true"}])
    assert assess(_job(), expressions).status == "InProgress"


_EVALUATOR = "failed to create custom status evaluator for healthchecks"


@pytest.mark.parametrize(
    ("checks", "cause"),
    [
        (
            [{"apiVersion": "example.org/v1", "kind": "Widget", "current": "data."}],
            f"{_EVALUATOR}[0]: failed to parse the expression Current: "
            "failed to parse the CEL expression 'data.': ERROR: <input>:1:6: Syntax error",
        ),
        (
            [{**_PHASES, "failed": "("}],
            f"{_EVALUATOR}[0]: failed to parse the expression Failed: ",
        ),
        (
            [{**_PHASES, "inProgress": "("}],
            f"{_EVALUATOR}[0]: failed to parse the expression InProgress: ",
        ),
        (
            [_PHASES, {"apiVersion": "example.org/v1", "current": ""}],
            f"{_EVALUATOR}[1]: expression Current not specified",
        ),
        (
            [_PHASES, {**_PHASES, "apiVersion": "example.org/v2"}],
            "duplicate custom health check for GroupKind Widget.example.org at healthchecks[1]",
        ),
    ],
)
def test_expressions_that_cannot_be_used_are_stalled(checks: list[JSON], cause: str) -> None:
    """The error has Flux's message and reason, so that the condition reads the same."""
    with pytest.raises(Stalled) as caught:
        Expressions.compile(checks)
    begin = f"Reconciliation failed terminally due to configuration error: {cause}"
    assert caught.value.message.startswith(begin)
    assert caught.value.reason == "InvalidCELExpression"


def test_the_bookkeeping_of_fields_reaches_only_who_asks_for_it() -> None:
    """managedFields are left out unless an expression names them, and the object stays as it is."""
    obj = _widget({"phase": "Ready"}, managedFields=[{"manager": "x"}])
    for current in ("!('managed' + 'Fields' in metadata)", "metadata.managedFields[0].manager == 'x'"):
        check = {"apiVersion": "example.org/v1", "kind": "Widget", "current": current}
        assert assess(obj, Expressions.compile([check])).status == "Current"
    assert obj["metadata"]["managedFields"] == [{"manager": "x"}]
