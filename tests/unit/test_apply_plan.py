"""The plan: what is skipped, kept, checked and repaired; prune; repairs; the inventory."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitwright.apply.inventory import Inventory
from gitwright.apply.live import Live, Owner, differing, fits, marks_of, project
from gitwright.apply.plan import Answer, PlanOptions, make_plan, may_delete, stage_of
from gitwright.apply.repairs import Repairs
from gitwright.core.objects import JSON, Manifest, ObjectKey
from gitwright.health import Health

OWNER = Owner("apps", "web")
GROUP = "kustomize.toolkit.fluxcd.io"
FIELDS = {
    "f:data": {"f:k": {}},
    "f:metadata": {"f:labels": {f"f:{GROUP}/name": {}, f"f:{GROUP}/namespace": {}}},
}


def wanted(value: str = "v", **annotations: str) -> Manifest:
    metadata: JSON = {
        "name": "a",
        "namespace": "apps",
        "labels": {f"{GROUP}/name": "web", f"{GROUP}/namespace": "apps"},
    }
    if annotations:
        metadata["annotations"] = {f"{GROUP}/{name}": text for name, text in annotations.items()}
    return Manifest.of({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": value}})


def live(value: str = "v", owner: Owner = OWNER, version: int = 5, **more: Any) -> Live:
    fields = more.pop("fields", FIELDS)
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "a",
            "namespace": "apps",
            "uid": "u",
            "resourceVersion": str(version),
            "labels": {f"{GROUP}/name": owner.name, f"{GROUP}/namespace": owner.namespace},
            "managedFields": [
                {"manager": "kustomize-controller", "operation": "Apply", "fieldsV1": fields},
                *more.pop("managers", []),
            ],
            **more,
        },
        "data": {"k": value},
    }
    return project(body, Health("Current", ""))


def verdict(manifest: Manifest, now: Live | None, answer: Answer | None = None, **more: Any) -> str:
    options = PlanOptions(
        OWNER,
        renewed=more.get("renewed", False),
        forced=more.get("forced", False),
        trusted=more.get("trusted", True),
        ended=more.get("ended", frozenset()),
    )
    found = {manifest.key: now} if now else {}
    plan = make_plan([manifest], found, {manifest.key: answer} if answer else {}, options)
    return next(iter(plan.steps())).verdict


def test_an_object_equal_to_the_last_answer_costs_nothing() -> None:
    """Same manifest, same owned values: kept."""
    now = live()
    assert verdict(wanted(), now, Answer(wanted().digest, now.owned)) == "keep"


def test_after_a_start_an_equal_object_is_kept_without_asking_the_server() -> None:
    """Without a remembered answer, owned values that fit the manifest are enough."""
    assert verdict(wanted(), live()) == "keep"
    assert verdict(wanted("other"), live()) == "check"


def test_drift_of_an_accepted_object_is_repaired_at_once() -> None:
    """A difference from the answer is repaired without a dry run, once it was accepted."""
    answer = Answer(wanted().digest, live().owned)
    assert verdict(wanted(), live("edited"), answer) == "repair"
    assert verdict(wanted(), None, answer) == "repair"
    assert verdict(wanted(), live("edited"), answer, trusted=False) == "check"
    assert verdict(wanted(), None, None) == "check"


def test_a_changed_manifest_is_checked_first() -> None:
    """What is new in Git goes through a dry run."""
    answer = Answer(wanted().digest, live().owned)
    assert verdict(wanted("new"), live(), answer) == "check"


@pytest.mark.parametrize("mark", [{"reconcile": "disabled"}, {"reconcile": "Disabled"}, {"ssa": "Ignore"}])
def test_objects_that_opted_out_are_skipped(mark: dict[str, str]) -> None:
    """In Git and in the cluster alike, without regard to case."""
    assert verdict(wanted(**mark), None) == "skip"
    annotations = {f"{GROUP}/{name}": text for name, text in mark.items()}
    assert verdict(wanted(), live(annotations=annotations)) == "skip"


def test_if_not_present_skips_what_exists_and_makes_what_does_not() -> None:
    """ssa: IfNotPresent is applied once."""
    manifest = wanted(ssa="IfNotPresent")
    assert verdict(manifest, live("edited")) == "skip"
    assert verdict(manifest, None) == "check"


def test_an_object_of_another_owner_is_taken_only_for_something_new() -> None:
    """No war: another owner's object is not drift."""
    other = live(owner=Owner("apps", "other"))
    answer = Answer(wanted().digest, live().owned)
    assert verdict(wanted(), other, answer) == "keep"
    assert verdict(wanted(), other, answer, forced=True) == "keep"
    assert verdict(wanted(), other, answer, renewed=True, trusted=False) == "check"


def test_an_owner_that_does_not_exist_takes_nothing_away() -> None:
    """A label of a Kustomization that is not there is drift, not another owner's claim."""
    other = Owner("apps", "ghost")
    now, answer = live(owner=other), Answer(wanted().digest, live().owned)
    assert verdict(wanted(), now, answer, trusted=True) == "keep"
    assert verdict(wanted(), now, answer, trusted=True, ended=frozenset({other})) == "repair"


def test_fields_of_kubectl_are_removed_by_an_apply_not_as_drift() -> None:
    """Fields that kubectl added beside ours wait for a new revision or a request."""
    kubectl = [{"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:data": {"f:x": {}}}}]
    now = live(managers=kubectl)
    answer = Answer(wanted().digest, now.owned)
    assert now.untidy
    assert now.others == ("kubectl-edit",)
    assert verdict(wanted(), now, answer) == "keep"
    assert verdict(wanted(), now, answer, forced=True) == "repair"
    assert (
        verdict(wanted(ssa="Merge"), now, Answer(wanted(ssa="Merge").digest, now.owned), forced=True)
        == "keep"
    )


def test_controllers_of_flux_are_left_out() -> None:
    """Flux's own Deployments are neither applied nor pruned."""
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "source-controller",
            "namespace": "flux-system",
            "labels": {"app.kubernetes.io/part-of": "flux"},
        },
    }
    assert verdict(Manifest.of(body), None) == "skip"
    labels = {"app.kubernetes.io/part-of": "flux", f"{GROUP}/name": "web", f"{GROUP}/namespace": "apps"}
    body["metadata"]["labels"] = labels  # type: ignore[index]
    assert "Flux" in may_delete(project(body, Health("Current", "")), OWNER)
    body["metadata"]["name"] = "my-controller"  # type: ignore[index]
    assert verdict(Manifest.of(body), None) == "check"


def test_stages_are_those_of_flux() -> None:
    """Definitions, classes, everything else."""
    keys = {
        "CustomResourceDefinition": 0,
        "Namespace": 0,
        "ClusterRole": 0,
        "StorageClass": 1,
        "GatewayClass": 1,
        "Deployment": 3,
    }
    assert {kind: stage_of(ObjectKey("", kind, "", "x")) for kind in keys} == keys


def test_only_our_own_objects_without_opt_out_are_deleted() -> None:
    """Prune needs both owner labels and no annotation against it."""
    assert may_delete(live(), OWNER) == ""
    assert may_delete(live(owner=Owner("apps", "x")), OWNER)
    assert may_delete(live(owner=Owner("other", "web")), OWNER)
    for mark in ({"prune": "disabled"}, {"reconcile": "disabled"}, {"ssa": "ignore"}):
        annotations = {f"{GROUP}/{name}": text for name, text in mark.items()}
        assert may_delete(live(annotations=annotations), OWNER)


def test_an_owned_field_that_is_no_longer_wanted_does_not_fit() -> None:
    """An object fits only if nothing owned is left over and nothing wanted is missing."""
    body = wanted().load()
    assert fits(body, live().owned)
    more = {**FIELDS, "f:data": {"f:k": {}, "f:old": {}}}
    extra = live(fields=more)
    left = orjson.loads(extra.owned)
    left["data"]["old"] = "x"
    assert not fits(body, orjson.dumps(left))
    body["data"]["new"] = "y"
    assert not fits(body, live().owned)
    assert not fits(body, b"")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
    )
)
def test_equal_values_do_not_differ(value: Any) -> None:
    """A value never differs from itself, and does from a wrapped one."""
    one = orjson.dumps(value) if _plain(value) else b"{}"
    assert differing(one, one) == ()
    assert differing(one, orjson.dumps({"wrapped": orjson.loads(one)})) != ()


def _plain(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return False
    return True


def test_differing_fields_are_named_by_path() -> None:
    """A warning can say which field somebody keeps changing."""
    one = orjson.dumps({"spec": {"replicas": 1, "list": [{"a": 1}]}})
    two = orjson.dumps({"spec": {"replicas": 2, "list": [{"a": 3}]}})
    assert differing(one, two) == (".spec.list[0].a", ".spec.replicas")
    # Another writer took the only field of a map, and then everything.
    assert differing(b'{"data":{"k":"v"}}', b"{}") == (".data.k",)
    assert differing(b'{"data":{"k":"v"}}', b"") == (".data.k",)


def test_marks_are_read_from_labels_too() -> None:
    """Flux reads its opt-outs from annotations and labels."""
    assert marks_of({"metadata": {"labels": {f"{GROUP}/ssa": "Merge"}}}) == {"ssa=merge"}


def test_the_first_repairs_are_immediate_and_then_back_off() -> None:
    """Two repairs of a field are free; the third waits, each one longer, up to the ceiling."""
    repairs, key = Repairs(window=60, first=10), ObjectKey("", "ConfigMap", "apps", "a")
    now = 0.0
    for _ in range(2):
        assert repairs.ask(key, [".data.k"], now).wait == 0
        repairs.made(key, [".data.k"], now, ceiling=25)
        now += 1
    first = repairs.ask(key, [".data.k"], now)
    assert first.warn
    assert first.wait == pytest.approx(9)
    repairs.warned(key, [".data.k"])
    assert not repairs.ask(key, [".data.k"], now).warn
    now += first.wait
    repairs.made(key, [".data.k"], now, ceiling=25)
    assert repairs.ask(key, [".data.k"], now).wait == pytest.approx(20)
    now += 20
    repairs.made(key, [".data.k"], now, ceiling=25)
    assert repairs.ask(key, [".data.k"], now).wait == pytest.approx(25)
    assert repairs.ask(key, [".data.other"], now).wait == 0
    repairs.forget()
    assert repairs.ask(key, [".data.k"], now).wait == 0


def test_repairs_far_apart_do_not_add_up() -> None:
    """A person who edits once an hour never meets the back-off."""
    repairs, key = Repairs(window=60, first=10), ObjectKey("", "ConfigMap", "apps", "a")
    for hour in range(10):
        assert repairs.ask(key, [".x"], hour * 3600.0).wait == 0
        repairs.made(key, [".x"], hour * 3600.0, ceiling=600)


def test_the_inventory_keeps_what_it_cannot_read() -> None:
    """A damaged entry is written back as it is and never deleted."""
    status = {"inventory": {"entries": [{"id": "ns_a__ConfigMap", "v": "v1"}, {"id": "broken", "v": "v1"}]}}
    inventory = Inventory.read(status)
    assert inventory.write() == status["inventory"]
    assert inventory.stale([]) == (ObjectKey("", "ConfigMap", "ns", "a"),)
    assert inventory.stale([ObjectKey("", "ConfigMap", "ns", "a")]) == ()
