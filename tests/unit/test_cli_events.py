"""Which events are shown, in which order and words."""

from __future__ import annotations

from typing import Any

import pytest

from gitwright.cli import events
from gitwright.cli.events import Choice
from gitwright.cli.failures import Misuse
from gitwright.core.objects import JSON

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z


def event(**more: Any) -> JSON:
    return {
        "metadata": {"name": "e", "namespace": "apps", "uid": "u", "resourceVersion": "1"},
        "involvedObject": {
            "kind": "Kustomization",
            "name": "app",
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        },
        "type": "Normal",
        "reason": "ReconciliationSucceeded",
        "message": "done\n",
        **more,
    }


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"firstTimestamp": "2023-11-14T22:13:10Z", "lastTimestamp": "2023-11-14T22:13:10Z"}, "10s"),
        (
            {
                "firstTimestamp": "2023-11-14T22:03:20Z",
                "lastTimestamp": "2023-11-14T22:13:15Z",
                "count": 3,
            },
            "5s (x3 over 10m)",
        ),
        (
            {
                "eventTime": "2023-11-14T22:03:20.000000Z",
                "series": {"count": 4, "lastObservedTime": "2023-11-14T22:13:19.000000Z"},
            },
            "1s (x4 over 10m)",
        ),
        ({"eventTime": None, "firstTimestamp": None}, "<unknown>"),
    ],
)
def test_when_an_event_was_seen_reads_as_kubectl_writes_it(fields: JSON, shown: str) -> None:
    """Single, counted and serial events have kubectl's words."""
    assert events.last_seen(event(**fields), NOW) == shown


def test_events_are_ordered_by_when_they_were_last_seen() -> None:
    """A series counts by its last observation, others by their last time, new ones by their own."""
    serial = event(series={"lastObservedTime": "2023-11-14T22:00:03Z"}, lastTimestamp="2023-11-14T22:00:09Z")
    counted = event(lastTimestamp="2023-11-14T22:00:02Z", eventTime="2023-11-14T22:00:09Z")
    single = event(lastTimestamp=None, eventTime="2023-11-14T22:00:01Z")
    assert sorted([serial, counted, single, event()], key=events.happened) == [
        event(),
        single,
        counted,
        serial,
    ]


@pytest.mark.parametrize(
    ("about", "kind", "wanted"),
    [
        ("kustomize.toolkit.fluxcd.io/v1", "Kustomization", True),
        ("source.extensions.fluxcd.io/v1beta1", "ArtifactGenerator", True),
        ("", "HelmRelease", True),
        ("kustomize.config.k8s.io/v1", "Kustomization", False),
        ("v1", "Pod", False),
    ],
)
def test_only_events_of_flux_are_shown(about: str, kind: str, wanted: bool) -> None:
    """An event counts when the object it is about is of a kind of Flux and of a group of Flux."""
    involved = {"kind": kind, "name": "x", "apiVersion": about}
    assert Choice("", "", "", ("Normal", "Warning")).wants(event(involvedObject=involved)) is wanted


def test_the_server_chooses_by_kind_and_name() -> None:
    """Kind and name go into the field selector, types are chosen here."""
    choice = Choice("Kustomization", "app", "apps", ("Warning",))
    assert choice.fields == "involvedObject.kind=Kustomization,involvedObject.name=app"
    assert not choice.wants(event())
    assert choice.wants(event(type="Warning"))


@pytest.mark.parametrize(
    ("given", "types"),
    [
        ((), ("Normal", "Warning")),
        (("warning",), ("Warning",)),
        (("Normal,Warning",), ("Normal", "Warning")),
        (("WARNING", "warning"), ("Warning",)),
    ],
)
def test_types_are_read_in_any_case(given: tuple[str, ...], types: tuple[str, ...]) -> None:
    """Types may be repeated or parted by commas; none means both."""
    assert events.parse_types(given) == types


def test_an_unknown_type_is_refused() -> None:
    """A type that Kubernetes does not have is wrong usage, in Flux's words."""
    with pytest.raises(Misuse, match=r"type 'Error' not supported\. Supported types are Normal, Warning"):
        events.parse_types(["Error"])


def test_a_row_of_an_event_stands_under_its_headers() -> None:
    """Namespace and the wide columns come with their headers, and Flux's revision is found."""
    obj = event(
        metadata={
            "namespace": "apps",
            "annotations": {"kustomize.toolkit.fluxcd.io/revision": "main@sha1:1"},
        },
        source={"component": "kustomize-controller"},
        firstTimestamp="2023-11-14T22:13:10Z",
    )
    row = events.row(obj, NOW, with_namespace=True, wide=True)
    assert dict(zip(events.headers(with_namespace=True, wide=True), row, strict=True)) == {
        "NAMESPACE": "apps",
        "LAST SEEN": "10s",
        "TYPE": "Normal",
        "REASON": "ReconciliationSucceeded",
        "OBJECT": "Kustomization/app",
        "SOURCE": "kustomize-controller",
        "REVISION": "main@sha1:1",
        "MESSAGE": "done",
    }
