"""Which rule judges an object, and the rules of kinds that run no pods.

Role in the flow: `assess` is the one way in. First the expressions of the owner, then
what holds for all kinds (deletion, generation, Reconciling, Stalled), then the rule of
the kind, then a Ready condition; an object with none of these is current.

Source: kstatus of fluxcd/cli-utils; fluxcd/pkg runtime/statusreaders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gitwright.core.objects import JSON, GroupKind, gvk_of
from gitwright.health import workloads
from gitwright.health.expressions import Expressions
from gitwright.health.model import (
    Health,
    Unreadable,
    because,
    conditions,
    current,
    failed,
    find,
    generation,
    in_progress,
    text,
)

_JOB = GroupKind("batch", "Job")
_POD = GroupKind("", "Pod")


def assess(
    obj: JSON | None,
    expressions: Expressions | None = None,
    *,
    now: str | None = None,
    pods: Iterable[JSON] = (),
) -> Health:
    """Judge the health of an object.

    Args:
        obj: the object as the cluster has it, with its status; None where it does not exist.
        expressions: those of its owner. As in Flux they do not apply to Jobs.
        now: RFC 3339 time; needed only to call an unschedulable Pod failed.
        pods: the pods of a StatefulSet or ReplicaSet, where the caller knows them.
    """
    if obj is None:
        return Health("NotFound", "the object does not exist")
    kind = gvk_of(obj).group_kind
    try:
        # Flux has a reader of its own for Jobs, which looks at neither deletion nor generation.
        if kind == _JOB:
            return workloads.job(obj)
        if expressions is not None and expressions.covers(kind):
            return expressions.assess(obj, kind)
        health = _of_all(obj) or _of_kind(obj, kind, now) or _by_ready(obj)
        if kind.group == "apps" and workloads.is_controller_of_pods(kind.kind):
            health = workloads.pods_have_failed(health, pods, now)
    except Unreadable as error:
        return Health("Unknown", str(error))
    return health


def _of_all(obj: JSON) -> Health | None:
    deleted = find(obj, "metadata", "deletionTimestamp")
    if deleted is not None and not isinstance(deleted, str):
        raise Unreadable(f"looking up metadata.deletionTimestamp from resource: {deleted!r} is not a text")
    if deleted:
        waiting = ", ".join(str(item) for item in find(obj, "metadata", "finalizers") or ())
        return Health(
            "Terminating", because("the object is being deleted", waiting and f"waits for {waiting}")
        )
    wanted = generation(obj, "metadata", "generation")
    if wanted is not None:
        observed = generation(obj, "status", "observedGeneration")
        if observed is not None and observed != wanted:
            return in_progress(f"generation {wanted} is not observed yet (latest: {observed})")
    for item in conditions(obj):
        if item.type == "Reconciling" and item.status == "True":
            return in_progress(item.message or item.reason)
        if item.type == "Stalled" and item.status == "True":
            return failed(item.message or item.reason)
    return None


def _of_kind(obj: JSON, kind: GroupKind, now: str | None) -> Health | None:
    if kind == _POD:
        return workloads.pod(obj, now)
    rule = _RULES.get(kind)
    return rule(obj) if rule is not None else None


def _by_ready(obj: JSON) -> Health:
    for item in conditions(obj):
        if item.type == "Ready":
            if item.status == "True":
                return current(item.message or "the object is ready")
            if item.status in ("False", "Unknown"):
                return in_progress(item.message or item.reason)
    return current("the object exists, and its kind shows no progress")


def _always(_obj: JSON) -> Health:
    return current("objects of this kind are ready at once")


def _claim(obj: JSON) -> Health:
    phase = text(obj, "status", "phase", default="unknown")
    if phase != "Bound":
        return in_progress(f"the claim is not bound, its phase is {phase}")
    return current("the claim is bound")


def _service(obj: JSON) -> Health:
    if text(obj, "spec", "type") == "LoadBalancer" and not text(obj, "spec", "clusterIP"):
        return in_progress("the load balancer has no cluster IP yet")
    return current("the Service is ready")


def _disruption_budget(_obj: JSON) -> Health:
    return current("the allowed disruptions are computed")


def _definition(obj: JSON) -> Health:
    for item in conditions(obj):
        if item.type == "NamesAccepted" and item.status == "False":
            return failed(because("the names are not accepted", item.message or item.reason))
        if item.type == "Established":
            if item.status == "False" and item.reason != "Installing":
                return failed(because("the definition is not established", item.message or item.reason))
            if item.status == "True":
                return current("the definition is established")
    return in_progress("the definition is being installed")


_RULES: dict[GroupKind, Callable[[JSON], Health]] = {
    GroupKind("", "Service"): _service,
    GroupKind("", "Secret"): _always,
    GroupKind("", "ConfigMap"): _always,
    GroupKind("", "PersistentVolumeClaim"): _claim,
    GroupKind("apps", "StatefulSet"): workloads.stateful_set,
    GroupKind("apps", "DaemonSet"): workloads.daemon_set,
    GroupKind("extensions", "DaemonSet"): workloads.daemon_set,
    GroupKind("apps", "Deployment"): workloads.deployment,
    GroupKind("extensions", "Deployment"): workloads.deployment,
    GroupKind("apps", "ReplicaSet"): workloads.replica_set,
    GroupKind("extensions", "ReplicaSet"): workloads.replica_set,
    GroupKind("policy", "PodDisruptionBudget"): _disruption_budget,
    GroupKind("batch", "CronJob"): _always,
    GroupKind("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
}
