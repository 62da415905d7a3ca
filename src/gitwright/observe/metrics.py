"""The metrics, in one private registry that is passed by argument.

Role in the flow: every room counts through the methods here; runtime/server shows
the result. Where Flux's controllers, controller-runtime or client-go have a name
for a figure, it is that name with those labels, so their dashboards go on working;
the rest begins with `gitwright_`. Source: spec/flux-v2.md section 8.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# Source: Flux's runtime/metrics, ten exponential steps from 10 ms to half an hour.
_GOTK_FACTOR = (1800 / 0.01) ** (1 / 9)
_GOTK_BUCKETS = tuple(0.01 * _GOTK_FACTOR**step for step in range(10))
# Source: controller-runtime's pkg/internal/controller/metrics.
_RECONCILE_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    *(1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60),
)
_QUEUE_BUCKETS = tuple(10.0**exponent for exponent in range(-8, 4))
_WORK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

_QUEUE = ("controller", "name")
# By field of `Metrics`: name, help, labels and, for histograms, buckets.
_COUNTERS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "reconciles": (
        "controller_runtime_reconcile",
        "Reconciliations by outcome.",
        ("controller", "result"),
    ),
    "reconcile_errors": (
        "controller_runtime_reconcile_errors",
        "Reconciliations that failed.",
        ("controller",),
    ),
    "reconcile_panics": (
        "controller_runtime_reconcile_panics",
        "Reconciliations ended by an unforeseen error.",
        ("controller",),
    ),
    "adds": ("workqueue_adds", "Keys added.", _QUEUE),
    "retries": ("workqueue_retries", "Keys added with back-off.", _QUEUE),
    "requests": (
        "rest_client_requests",
        "Requests to API servers; code is <error> without an answer.",
        ("code", "method", "host"),
    ),
    "watches": ("gitwright_watch_events", "Events received on watches.", ("kind", "type")),
    "git": (
        "gitwright_git_operations",
        "Git operations over the network.",
        ("operation", "result"),
    ),
    "builds": ("gitwright_builds", "Builds by outcome: hit, miss or error.", ("result",)),
    "stalls": ("gitwright_event_loop_stalls", "Samples in which the event loop was too late.", ()),
}
_GAUGES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "active_workers": ("controller_runtime_active_workers", "Worker places in use.", ("controller",)),
    "max_workers": ("controller_runtime_max_concurrent_reconciles", "Worker places.", ("controller",)),
    "depth": ("workqueue_depth", "Keys that are due, by priority.", (*_QUEUE, "priority")),
    "leader": (
        "leader_election_master_status",
        "1 while this engine holds the lease, else 0.",
        ("name",),
    ),
    "lag": ("gitwright_event_loop_lag_seconds", "How late the event loop was at the last sample.", ()),
}
_HISTOGRAMS: Mapping[str, tuple[str, str, tuple[str, ...], tuple[float, ...]]] = {
    "reconcile_seconds": (
        "controller_runtime_reconcile_time_seconds",
        "Length of reconciliations.",
        ("controller",),
        _RECONCILE_BUCKETS,
    ),
    "queue_seconds": (
        "workqueue_queue_duration_seconds",
        "Wait from due to taken.",
        _QUEUE,
        _QUEUE_BUCKETS,
    ),
    "work_seconds": (
        "workqueue_work_duration_seconds",
        "Wait from taken to done.",
        _QUEUE,
        _QUEUE_BUCKETS,
    ),
    "request_seconds": (
        "rest_client_request_duration_seconds",
        "Time to the answer of an API server.",
        ("verb", "host"),
        _WORK_BUCKETS,
    ),
    "git_seconds": (
        "gitwright_git_operation_seconds",
        "Length of Git operations.",
        ("operation",),
        _WORK_BUCKETS,
    ),
    "build_seconds": (
        "gitwright_build_seconds",
        "Length of builds that were not remembered.",
        (),
        _WORK_BUCKETS,
    ),
}


class Described(NamedTuple):
    """One metric for the reference: its name as exposed, type, help and labels."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metrics:
    """All metrics of one engine; made by `Metrics.create`.

    The methods are cheap (about a microsecond) and may be called on the event loop;
    `expose` may not.
    """

    registry: CollectorRegistry
    durations: ObjectDurations
    reconciles: Counter
    reconcile_errors: Counter
    reconcile_panics: Counter
    reconcile_seconds: Histogram
    active_workers: Gauge
    max_workers: Gauge
    depth: Gauge
    adds: Counter
    retries: Counter
    queue_seconds: Histogram
    work_seconds: Histogram
    requests: Counter
    request_seconds: Histogram
    watches: Counter
    git: Counter
    git_seconds: Histogram
    builds: Counter
    build_seconds: Histogram
    leader: Gauge
    lag: Gauge
    stalls: Counter

    @classmethod
    def create(cls) -> Metrics:
        """Make a fresh set with its own registry."""
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        durations = ObjectDurations()
        registry.register(durations)
        made: dict[str, Any] = {}
        for field, (name, text, labels) in _COUNTERS.items():
            made[field] = Counter(name, text, labels, registry=registry)
        for field, (name, text, labels) in _GAUGES.items():
            made[field] = Gauge(name, text, labels, registry=registry)
        for field, (name, text, labels, buckets) in _HISTOGRAMS.items():
            made[field] = Histogram(name, text, labels, registry=registry, buckets=buckets)
        return cls(registry=registry, durations=durations, **made)

    def reconciled(self, controller: str, result: str, seconds: float) -> None:
        """Count one run of a reconciler.

        Args:
            controller: the controller's name, such as `kustomization`.
            result: `success`, `requeue_after`, `error`, `superseded` or `cancelled`.
            seconds: how long it took.
        """
        self.reconciles.labels(controller, result).inc()
        self.reconcile_seconds.labels(controller).observe(seconds)
        if result == "error":
            self.reconcile_errors.labels(controller).inc()

    def object_reconciled(self, kind: str, name: str, namespace: str, seconds: float) -> None:
        """Record the length of one object's reconciliation, in Flux's per-object series."""
        self.durations.observe(kind, name, namespace, seconds)

    def forget_object(self, kind: str, name: str, namespace: str) -> None:
        """Drop the series of an object that is gone."""
        self.durations.forget(kind, name, namespace)

    def queue_depth(self, controller: str, depth: Mapping[int, int]) -> None:
        """Set the number of due keys per priority."""
        for priority, count in depth.items():
            self.depth.labels(controller, controller, str(priority)).set(count)

    def request(self, method: str, host: str, code: str, seconds: float | None = None) -> None:
        """Count one request to an API server.

        Args:
            method: the HTTP method.
            host: the server's host and port; never a URL.
            code: the HTTP status, or `<error>` where there was no answer.
            seconds: time to the answer, if it is to be recorded.
        """
        self.requests.labels(code, method, host).inc()
        if seconds is not None:
            self.request_seconds.labels(method, host).observe(seconds)

    def watched(self, kind: str, event: str) -> None:
        """Count one event of a watch, such as (`Deployment.apps`, `MODIFIED`)."""
        self.watches.labels(kind, event).inc()

    def git_done(self, operation: str, result: str, seconds: float) -> None:
        """Count one Git operation (`ls-remote`, `fetch`) with `success` or `error` and its length."""
        self.git.labels(operation, result).inc()
        self.git_seconds.labels(operation).observe(seconds)

    def built(self, result: str, seconds: float = 0.0) -> None:
        """Count one build: `hit` (remembered), `miss` or `error`; the latter two with their length."""
        self.builds.labels(result).inc()
        if result != "hit":
            self.build_seconds.observe(seconds)

    def leading(self, lease: str, holds: bool) -> None:
        """Tell whether this engine holds a lease."""
        self.leader.labels(lease).set(1.0 if holds else 0.0)

    def expose(self) -> bytes:
        """Write everything in Prometheus' text format; takes milliseconds, so call it in a thread."""
        return generate_latest(_WithoutCreated(self.registry))

    def describe(self) -> list[Described]:
        """List our metrics for the reference documentation, sorted by name."""
        rows = [Described(_GOTK_NAME, "histogram", _GOTK_HELP, _GOTK_LABELS)]
        for field in self.__dataclass_fields__:
            metric = getattr(self, field)
            if isinstance(metric, Counter | Gauge | Histogram):
                suffix = "_total" if isinstance(metric, Counter) else ""
                rows.append(
                    Described(
                        metric._name + suffix, metric._type, metric._documentation, tuple(metric._labelnames)
                    )
                )
        return sorted(rows)


_GOTK_NAME = "gotk_reconcile_duration_seconds"
_GOTK_HELP = "The duration in seconds of a GitOps Toolkit resource reconciliation."
_GOTK_LABELS = ("kind", "name", "namespace")


class ObjectDurations(Collector):
    """Flux's histogram per object, kept as one short list of numbers each.

    prometheus-client's own histogram takes some kilobytes per series; with thousands
    of objects that would be most of the memory that is ours to use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[tuple[str, str, str], list[float]] = {}

    def observe(self, kind: str, name: str, namespace: str, seconds: float) -> None:
        """Add one duration to an object's series."""
        with self._lock:
            series = self._series.get((kind, name, namespace))
            if series is None:
                # One count per bucket, one for what is longer, and the sum.
                series = [0.0] * (len(_GOTK_BUCKETS) + 2)
                self._series[(kind, name, namespace)] = series
            series[bisect_left(_GOTK_BUCKETS, seconds)] += 1
            series[-1] += seconds

    def forget(self, kind: str, name: str, namespace: str) -> None:
        """Drop an object's series."""
        with self._lock:
            self._series.pop((kind, name, namespace), None)

    def describe(self) -> Iterable[Metric]:
        """Give the name without the samples, as the registry asks at registration."""
        return [HistogramMetricFamily(_GOTK_NAME, _GOTK_HELP, labels=_GOTK_LABELS)]

    def collect(self) -> Iterable[Metric]:
        """Give the samples of all objects."""
        with self._lock:
            snapshot = [(labels, tuple(series)) for labels, series in self._series.items()]
        family = HistogramMetricFamily(_GOTK_NAME, _GOTK_HELP, labels=_GOTK_LABELS)
        bounds = [*(repr(bound) for bound in _GOTK_BUCKETS), "+Inf"]
        for labels, series in snapshot:
            total = 0.0
            buckets: list[tuple[str, float]] = []
            for bound, count in zip(bounds, series[:-1], strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric(labels, buckets, sum_value=series[-1])
        return [family]


class _WithoutCreated(Collector):
    """A registry without the `_created` samples, which double the page and nobody reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
