"""The core: identities, order, inventory ids, errors, conditions, durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitwright.core import conditions, durations
from gitwright.core.errors import Stalled, Transient
from gitwright.core.objects import (
    GVK,
    Manifest,
    ObjectKey,
    apply_rank,
    inventory_id,
    key_of,
    parse_inventory_id,
    sort_manifests,
)

_NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True)


@given(
    _NAMES,
    st.one_of(st.just(""), _NAMES),
    st.sampled_from(["", "apps", "stable.example.com"]),
    st.sampled_from(["Job", "A"]),
)
def test_inventory_ids_are_read_back_as_written(name: str, namespace: str, group: str, kind: str) -> None:
    """An identity survives the inventory's text form, whatever its parts."""
    key = ObjectKey(group, kind, namespace, name)
    assert parse_inventory_id(inventory_id(key)) == key


def test_rbac_names_with_colons_survive_the_inventory() -> None:
    """Colons of RBAC names are written as Flux writes them and read back."""
    key = ObjectKey("rbac.authorization.k8s.io", "ClusterRole", "", "system:thing")
    assert inventory_id(key) == "_system__thing_rbac.authorization.k8s.io_ClusterRole"
    assert parse_inventory_id(inventory_id(key)) == key


@pytest.mark.parametrize("text", ["", "a", "a_b", "a_b_c", "___", "ns__g_K", "ns_name_g_"])
def test_damaged_inventory_ids_are_refused(text: str) -> None:
    """An entry without all four parts is an error, never a wrong identity."""
    with pytest.raises(ValueError, match="inventory entry"):
        parse_inventory_id(text)


def test_objects_are_applied_in_flux_order() -> None:
    """Definitions come first, webhooks last, unknown kinds between, equals by name."""
    kinds = ["ValidatingWebhookConfiguration", "Widget", "Deployment", "ConfigMap", "Namespace", "Role"]
    manifests = [
        Manifest.of({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}})
        for kind in kinds
        for name in ("b", "a")
    ]
    ordered = [(manifest.key.kind, manifest.key.name) for manifest in sort_manifests(manifests)]
    wanted = ["Namespace", "Role", "ConfigMap", "Deployment", "Widget", "ValidatingWebhookConfiguration"]
    assert ordered == [(kind, name) for kind in wanted for name in ("a", "b")]
    assert apply_rank(ObjectKey("", "Namespace", "", "z")) < apply_rank(ObjectKey("", "ConfigMap", "", "a"))


def test_a_manifest_does_not_change_with_the_object_it_was_made_of() -> None:
    """What was planned stays as planned: later changes of the source object do not reach it."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    manifest = Manifest.of(body)
    body["data"]["k"] = "changed"  # type: ignore[index]
    assert manifest.load()["data"] == {"k": "v"}
    assert manifest.gvk == GVK("", "v1", "ConfigMap")
    assert key_of(body).subject == "ConfigMap/a"


def test_an_error_shows_message_place_detail_and_hint_in_this_order() -> None:
    """Flux's text comes first, ours follows line by line."""
    error = Stalled("build failed", place="a.yaml:3", detail="not a mapping", hint="mend it")
    assert str(error) == "build failed\na.yaml:3: not a mapping\nhint: mend it"
    assert str(Transient("failed\n")) == "failed\n"
    assert str(Transient("failed\n", hint="x")) == "failed\nhint: x"


def test_conditions_stand_in_flux_order_and_keep_their_time() -> None:
    """Kstatus' conditions stand first; the time moves only with status, reason or message."""
    found = conditions.put([], "Healthy", "True", "Succeeded", "m", generation=1, now="t1")
    found = conditions.put(found, "Ready", "True", "Done", "m", generation=1, now="t1")
    found = conditions.put(found, "Reconciling", "True", "Progressing", "m", generation=1, now="t1")
    assert [condition["type"] for condition in found] == ["Reconciling", "Ready", "Healthy"]
    found = conditions.put(found, "Ready", "True", "Done", "m", generation=2, now="t2")
    ready = conditions.get(found, "Ready")
    assert ready is not None
    assert (ready["lastTransitionTime"], ready["observedGeneration"]) == ("t1", 2)
    found = conditions.put(found, "Ready", "True", "Done", "other", generation=2, now="t3")
    assert (conditions.get(found, "Ready") or {})["lastTransitionTime"] == "t3"
    assert conditions.drop(found, "Ready", "Healthy") == [found[0]]


def test_newer_observed_conditions_stand_before_older_ones() -> None:
    """Among the others the newest observed generation comes first, then the type."""
    found = conditions.put([], "ArtifactInStorage", "True", "Succeeded", "m", generation=3, now="t")
    found = conditions.put(found, "FetchFailed", "True", "Failed", "m", generation=4, now="t")
    assert [condition["type"] for condition in found] == ["FetchFailed", "ArtifactInStorage"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1.5, "1.5s"),
        (0.02, "20ms"),
        (90, "1m30s"),
        (3600, "1h0m0s"),
        (0.0000015, "1.5\u00b5s"),
        (-30, "-30s"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    """The texts people know from Flux's messages."""
    assert durations.show(seconds) == text
    assert durations.parse(text) == pytest.approx(seconds)


@given(st.integers(min_value=0, max_value=10**15))
def test_durations_are_read_back_as_written(nanoseconds: int) -> None:
    """Writing and reading a duration loses nothing."""
    seconds = nanoseconds / 1e9
    assert durations.parse(durations.show(seconds)) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("text", ["", "5", "x", "1d", "1m 30s", "--1s", "s"])
def test_texts_that_are_no_durations_are_refused(text: str) -> None:
    """An error names the text and shows the form."""
    with pytest.raises(ValueError, match="duration"):
        durations.parse(text)


def test_a_message_too_long_for_the_api_server_is_cut() -> None:
    """A condition's message holds 32768 characters; a longer one would lose the whole status."""
    limit = conditions.LONGEST_MESSAGE
    for length in (limit - 1, limit, limit + 1, 10 * limit):
        (made,) = conditions.put([], "Ready", "False", "R", "x" * length, generation=1, now="t")
        assert len(made["message"]) == min(length, limit)
        assert made["message"].endswith("..." if length > limit else "xxx")
        (again,) = conditions.put([made], "Ready", "False", "R", "x" * length, generation=2, now="later")
        assert again["lastTransitionTime"] == "t"
