"""The rules of leader election, which are client-go's."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone

import pytest

from gitwright.core.objects import JSON
from gitwright.observe import logging
from gitwright.observe.metrics import Metrics
from gitwright.runtime.lease import (
    Action,
    KubeLeaseApi,
    Leases,
    Observed,
    decide,
    micro_time,
    observe,
    released_spec,
    wanted_spec,
)

ME, OTHER = "gitwright_1", "flux_2"
WALL = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
STAMP = "2026-01-02T03:04:05.000006Z"


def lease(
    holder: str | None, duration: int | None = 35, renewed: str = "2020-01-01T00:00:00.000000Z"
) -> JSON:
    spec: JSON = {"renewTime": renewed, "acquireTime": "2019-01-01T00:00:00.000000Z", "leaseTransitions": 3}
    if holder is not None:
        spec["holderIdentity"] = holder
    if duration is not None:
        spec["leaseDurationSeconds"] = duration
    return {"metadata": {"name": "x", "resourceVersion": "7"}, "spec": spec}


@pytest.mark.parametrize(
    ("holder", "duration", "seen_for"),
    list(itertools.product([None, "", ME, OTHER], [None, 0, 1, 35], [None, 0.0, 0.5, 1.0, 34.9, 35.0, 1e6])),
)
def test_every_case_is_decided_as_client_go_does(
    holder: str | None, duration: int | None, seen_for: float | None
) -> None:
    """Free leases are taken, our own renewed, others' waited for until they run out by our own clock."""
    now = 1000.0
    found = lease(holder, duration)
    observed = None if seen_for is None else observe(found, None, now - seen_for)
    action = decide(found, now, ME, observed)
    if not holder:
        assert action is Action.ACQUIRE
    elif holder == ME:
        assert action is Action.RENEW
    elif (seen_for or 0.0) < (duration or 0):
        assert action is Action.WAIT
    else:
        assert action is Action.ACQUIRE


def test_a_missing_lease_is_created() -> None:
    """Where there is no lease, whoever creates it leads."""
    assert decide(None, 0, ME, None) is Action.CREATE
    spec = wanted_spec(Action.CREATE, None, ME, 35, WALL)
    assert spec == {
        "holderIdentity": ME,
        "leaseDurationSeconds": 35,
        "acquireTime": STAMP,
        "renewTime": STAMP,
        "leaseTransitions": 0,
    }


def test_each_renewal_of_another_starts_the_wait_anew() -> None:
    """A holder that renews is never overtaken, however old its stamps are by our clock."""
    observed: Observed | None = None
    for second in range(0, 300, 10):
        found = lease(OTHER, 35, renewed=f"1999-01-01T00:00:{second % 60:02}.{second:06}Z")
        observed = observe(found, observed, second)
        assert observed.since == second
        assert decide(found, second, ME, observed) is Action.WAIT
    assert decide(found, 290 + 34.9, ME, observe(found, observed, 290 + 34.9)) is Action.WAIT
    assert decide(found, 290 + 35, ME, observe(found, observed, 290 + 35)) is Action.ACQUIRE


def test_an_old_observation_of_another_state_does_not_count() -> None:
    """What was seen of a former state says nothing about this one."""
    old = observe(lease(OTHER, renewed="a"), None, 0)
    assert decide(lease(OTHER, renewed="b"), 1000, ME, old) is Action.WAIT


def test_only_the_spec_is_observed() -> None:
    """A change of metadata, such as a label, is no renewal."""
    found = lease(OTHER)
    first = observe(found, None, 5)
    found["metadata"]["resourceVersion"] = "8"
    found["metadata"]["labels"] = {"a": "b"}
    assert observe(found, first, 50) is first


def test_acquiring_counts_a_transition_and_renewing_does_not() -> None:
    """The holder, its time of acquisition and the transitions are kept as client-go keeps them."""
    taken = wanted_spec(Action.ACQUIRE, lease(OTHER), ME, 35, WALL)
    assert (taken["leaseTransitions"], taken["acquireTime"], taken["renewTime"]) == (4, STAMP, STAMP)
    renewed = wanted_spec(Action.RENEW, lease(ME), ME, 35, WALL)
    assert renewed["leaseTransitions"] == 3
    assert renewed["acquireTime"] == "2019-01-01T00:00:00.000000Z"
    assert renewed["renewTime"] == STAMP


def test_a_released_lease_is_free_for_anybody_at_once() -> None:
    """Releasing empties the holder and leaves one second, and keeps the count."""
    spec = released_spec(lease(ME), WALL)
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("", 1, 3)
    assert decide({"metadata": {}, "spec": spec}, 0, OTHER, None) is Action.ACQUIRE


def test_durations_are_written_as_whole_seconds() -> None:
    """The API knows whole seconds, and at least one."""
    assert wanted_spec(Action.CREATE, None, ME, 0.4, WALL)["leaseDurationSeconds"] == 1
    assert wanted_spec(Action.CREATE, None, ME, 34.6, WALL)["leaseDurationSeconds"] == 35


def test_micro_times_are_utc_with_six_decimals() -> None:
    """Kubernetes' MicroTime, whatever zone the clock is in."""
    assert micro_time(WALL) == STAMP
    assert micro_time(WALL.astimezone(timezone(timedelta(hours=5)))) == STAMP
    assert micro_time(WALL.replace(microsecond=0)) == "2026-01-02T03:04:05.000000Z"


def test_settings_that_cannot_work_are_refused() -> None:
    """A renewal must come well before the lease runs out, and a holder needs a name."""

    def make(identity: str = ME, duration: float = 35, renew: float = 10) -> Leases:
        return Leases(
            KubeLeaseApi.__new__(KubeLeaseApi),
            ("a",),
            identity,
            log=logging.get("x"),
            metrics=Metrics.create(),
            duration=duration,
            renew=renew,
        )

    assert not make().held
    assert make(duration=1, renew=0.3).waiting_for == ""
    with pytest.raises(ValueError, match="renewed within 30 s"):
        make(renew=30)
    with pytest.raises(ValueError, match="identity"):
        make(identity="")
