"""`apply.normalise` and `formats.quantity` against what Flux itself made of the same objects."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gitwright.apply.normalise import normalise
from gitwright.core.objects import JSON
from gitwright.formats import quantity

_RECORDED = json.loads((Path(__file__).parent / "data" / "normalise.json").read_text())


def _deployment(**container: Any) -> JSON:
    pod = {"containers": [{"name": "web", "image": "web:1", **container}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"spec": pod}},
    }


@pytest.mark.parametrize("row", _RECORDED["objects"], ids=lambda row: row["case"])
def test_an_object_becomes_what_flux_makes_of_it(row: JSON) -> None:
    """Each recorded object comes out exactly as Flux sends it, and the input is not changed."""
    given_object = copy.deepcopy(row["object"])
    result = normalise(given_object)
    assert json.dumps(result, sort_keys=True) == json.dumps(row["expected"], sort_keys=True)
    assert given_object == row["object"]


@pytest.mark.parametrize("row", _RECORDED["objects"], ids=lambda row: row["case"])
def test_normalising_twice_changes_nothing_more(row: JSON) -> None:
    """A normalised object is a fixed point."""
    once = normalise(row["object"])
    assert normalise(once) == once


@pytest.mark.parametrize(("text", "wanted"), _RECORDED["quantities"])
def test_a_quantity_is_written_as_go_writes_it(text: str, wanted: str | None) -> None:
    """Each recorded text has Go's canonical form, or is refused where Go refuses it."""
    if wanted is None:
        with pytest.raises(ValueError, match="quantity"):
            quantity.canonical(text)
    else:
        assert quantity.canonical(text) == wanted


@given(
    st.integers(min_value=0, max_value=10**15),
    st.sampled_from(["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi"]),
)
def test_a_canonical_quantity_means_the_same(amount: int, suffix: str) -> None:
    """The canonical form has the value of what was written, in units of 10^-9."""
    units = {"n": 1, "u": 10**3, "m": 10**6, "": 10**9, "k": 10**12, "M": 10**15, "G": 10**18}
    units |= {"T": 10**21, "P": 10**24, "E": 10**27}
    units |= {f"{name}i": 10**9 * 1024**power for power, name in enumerate("KMGTPE", 1)}
    # From 10^21 on Go has no suffix for a number and drops its exponent; Flux sends that too.
    assume(amount * units[suffix] < 10**30)
    written = quantity.canonical(f"{amount}{suffix}")
    number = written.rstrip("numkMGTPEKi")
    # Beyond 64 bits a binary quantity is capped.
    wanted = amount * units[suffix]
    if suffix.endswith("i"):
        wanted = min(wanted, (2**63 - 1) * 10**9)
    assert int(number) * units[written.removeprefix(number)] == wanted


def test_a_quantity_with_an_absurd_exponent_is_refused_at_once() -> None:
    """An exponent of nine digits costs no time and gives an error."""
    begin = time.perf_counter()
    with pytest.raises(ValueError, match="beyond"):
        quantity.canonical("1e999999999")
    assert time.perf_counter() - begin < 0.1


def test_the_result_shares_no_metadata_with_the_input() -> None:
    """Labels added to the result never reach the object it was made of."""
    widget: JSON = {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"labels": {"a": "b"}}}
    for obj in (_deployment(), widget):
        result = normalise(obj)
        result["metadata"].setdefault("labels", {})["added"] = "yes"
        assert "added" not in obj["metadata"]["labels"]


def test_a_deployment_costs_well_under_a_third_of_a_millisecond() -> None:
    """A hundred normalisations of a usual Deployment take less than 30 ms."""
    obj = _deployment(
        ports=[{"containerPort": 80}],
        env=[{"name": f"V{index}", "value": "x"} for index in range(10)],
        resources={"limits": {"cpu": "1000m", "memory": "1024Mi"}},
    )
    normalise(obj)
    best = 1.0
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(100):
            normalise(obj)
        best = min(best, time.perf_counter() - begin)
    assert best < 0.03
