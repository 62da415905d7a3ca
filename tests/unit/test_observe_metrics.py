"""Metrics: the names that dashboards of Flux use, and no global registry."""

from __future__ import annotations

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from gitwright.observe.metrics import Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.expose().decode())
        for sample in family.samples
    }


def test_names_and_labels_are_those_of_flux_controllers() -> None:
    """Dashboards for Flux read our figures unchanged."""
    metrics = Metrics.create()
    metrics.reconciled("kustomization", "error", 0.2)
    metrics.queue_depth("kustomization", {0: 3, 5: 1})
    metrics.request("GET", "10.0.0.1:443", "200", 0.01)
    metrics.leading("kustomize-controller-leader-election", True)
    shown = samples(metrics)
    assert (
        shown["controller_runtime_reconcile_total", (("controller", "kustomization"), ("result", "error"))]
        == 1
    )
    assert shown["controller_runtime_reconcile_errors_total", (("controller", "kustomization"),)] == 1
    assert shown["controller_runtime_reconcile_time_seconds_count", (("controller", "kustomization"),)] == 1
    assert (
        shown[
            "workqueue_depth",
            (("controller", "kustomization"), ("name", "kustomization"), ("priority", "0")),
        ]
        == 3
    )
    assert (
        shown["rest_client_requests_total", (("code", "200"), ("host", "10.0.0.1:443"), ("method", "GET"))]
        == 1
    )
    assert shown["leader_election_master_status", (("name", "kustomize-controller-leader-election"),)] == 1
    assert any(name == "process_cpu_seconds_total" for name, _ in shown)
    assert not any(name.endswith("_created") for name, _ in shown)


def test_durations_per_object_are_flux_histogram_and_go_with_the_object() -> None:
    """Ten exponential buckets from 10 ms to 30 min, cumulative, dropped when the object is gone."""
    metrics = Metrics.create()
    for seconds in (0.005, 0.03, 0.03, 5000.0):
        metrics.object_reconciled("Kustomization", "web", "apps", seconds)
    labels = (("kind", "Kustomization"), ("name", "web"), ("namespace", "apps"))
    shown = samples(metrics)
    name = "gotk_reconcile_duration_seconds"
    buckets = {
        dict(found)["le"]: value for (sample, found), value in shown.items() if sample == f"{name}_bucket"
    }
    assert len(buckets) == 11
    assert buckets["0.01"] == 1
    assert list(buckets.values()) == sorted(buckets.values())
    assert max(float(bound) for bound in buckets if bound != "+Inf") - 1800 < 1e-6
    assert buckets["+Inf"] == shown[f"{name}_count", labels] == 4
    assert shown[f"{name}_sum", labels] == 5000.065
    metrics.forget_object("Kustomization", "web", "apps")
    assert not any(sample.startswith(name) for sample, _ in samples(metrics))


def test_builds_git_watches_and_lag_are_counted() -> None:
    """Our own figures: what was remembered, what was fetched, what watches brought."""
    metrics = Metrics.create()
    metrics.built("hit")
    metrics.built("miss", 0.3)
    metrics.git_done("fetch", "success", 1.0)
    metrics.watched("Deployment.apps", "MODIFIED")
    metrics.lag.set(0.001)
    shown = samples(metrics)
    assert shown["gitwright_builds_total", (("result", "hit"),)] == 1
    assert shown["gitwright_build_seconds_count", ()] == 1
    assert shown["gitwright_git_operations_total", (("operation", "fetch"), ("result", "success"))] == 1
    assert shown["gitwright_watch_events_total", (("kind", "Deployment.apps"), ("type", "MODIFIED"))] == 1
    assert shown["gitwright_event_loop_lag_seconds", ()] == 0.001


def test_two_engines_in_one_process_share_nothing() -> None:
    """Each set has its own registry, and the library's global one stays as it was."""
    one, two = Metrics.create(), Metrics.create()
    one.built("hit")
    assert ("gitwright_builds_total", (("result", "hit"),)) in samples(one)
    assert ("gitwright_builds_total", (("result", "hit"),)) not in samples(two)
    assert not any(family.name.startswith("gitwright") for family in REGISTRY.collect())


def test_every_metric_of_ours_is_described() -> None:
    """The reference documentation can be generated: each name with type, help and labels."""
    metrics = Metrics.create()
    described = {row.name: row for row in metrics.describe()}
    assert described["controller_runtime_reconcile_total"].labels == ("controller", "result")
    exposed = {
        line.split()[2] for line in metrics.expose().decode().splitlines() if line.startswith("# TYPE")
    }
    ours = {name for name in exposed if not name.startswith(("process_", "python_"))}
    assert ours == set(described)
    assert all(row.help and row.kind in ("counter", "gauge", "histogram") for row in described.values())
