"""When a request has been handled and what came of it."""

from __future__ import annotations

from typing import Any

import pytest

from gitwright.cli import readiness
from gitwright.cli.reconcile import timestamp


def obj(
    status: str = "True", *, observed: int | None = 2, last: str = "now", present: str = "now", own: int = 2
) -> dict[str, Any]:
    condition: dict[str, Any] = {"type": "Ready", "status": status, "message": "m"}
    if observed is not None:
        condition["observedGeneration"] = observed
    return {
        "metadata": {"generation": 2, "annotations": {"reconcile.fluxcd.io/requestedAt": present}},
        "status": {"conditions": [condition], "lastHandledReconcileAt": last, "observedGeneration": own},
    }


def test_a_final_condition_of_the_present_generation_is_the_verdict() -> None:
    """Ready True and False count; the message comes with them."""
    assert readiness.verdict(obj("True")) == readiness.Verdict(True, "m")
    assert readiness.verdict(obj("False")) == readiness.Verdict(False, "m")


@pytest.mark.parametrize(
    "state",
    [obj("Unknown"), obj(observed=1), obj(observed=None, own=1), {"metadata": {"generation": 1}}],
)
def test_anything_else_is_no_verdict(state: dict[str, Any]) -> None:
    """Unknown, an older generation and no status at all mean: go on waiting."""
    assert readiness.verdict(state) is None


def test_a_condition_without_generation_counts_by_that_of_the_status() -> None:
    """Kinds that write no generation into conditions are judged by status.observedGeneration."""
    assert readiness.verdict(obj(observed=None)) is not None


@pytest.mark.parametrize(
    ("last", "present", "handled"),
    [
        ("ours", "ours", True),
        ("before", "ours", False),
        ("", "ours", False),
        ("later", "later", True),
        ("before", "later", False),
    ],
)
def test_a_request_is_handled_by_itself_or_by_a_later_one(last: str, present: str, handled: bool) -> None:
    """An older request does not count; a later one that took its place does."""
    assert readiness.handled(obj(last=last, present=present), "ours") is handled


def test_requests_carry_fractions_of_a_second() -> None:
    """Two requests within a second differ, as Flux's do."""
    assert timestamp(1_700_000_000.25) == "2023-11-14T22:13:20.250000Z"
