"""Laws of merging that no oracle is needed for, and input that means harm."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitwright.core.errors import GitwrightError
from gitwright.formats import yaml
from gitwright.render.kustomize import jsonpatch, lists, merge, regex, schema
from gitwright.render.kustomize.build import build
from gitwright.render.kustomize.directory import DirectoryFiles
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.results import Results
from gitwright.render.kustomize.tree import MappingFiles

_POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
_PATIENCE = 5.0
"""Seconds; far more than the second that is promised, so that a busy machine fails no test."""


def _pod(containers: list[dict[str, Any]]) -> dict[str, Any]:
    return {**_POD, "spec": {"containers": containers}}


_containers = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abcde")}, optional={"image": st.sampled_from("xyz")}),
    unique_by=lambda item: item["name"],
    max_size=5,
)


@given(_containers, _containers)
def test_the_quick_way_and_the_exact_way_agree(
    own: list[dict[str, Any]], brought: list[dict[str, Any]]
) -> None:
    """Lists whose items all have their key, once, come out the same on both ways."""
    quick = merge.strategic(_pod(copy.deepcopy(own)), _pod(copy.deepcopy(brought)), schema.built_in())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "plan", lambda *_: None)
        exact = merge.strategic(_pod(copy.deepcopy(own)), _pod(copy.deepcopy(brought)), schema.built_in())
    assert quick == exact


@given(_containers)
def test_an_empty_patch_changes_nothing(own: list[dict[str, Any]]) -> None:
    """A patch with nothing in it leaves an object as it is."""
    target = _pod(own)
    assert merge.strategic(copy.deepcopy(target), copy.deepcopy(_POD), schema.built_in()) == target


@settings(max_examples=50)
@given(st.integers(0, 3), st.integers(-4, 4))
def test_what_is_added_can_be_removed_again(length: int, index: int) -> None:
    """Adding at an index and removing there gives the list that was before."""
    before = {"list": list(range(length))}
    path = f"/list/{index}"
    try:
        added = jsonpatch.apply(copy.deepcopy(before), [{"op": "add", "path": path, "value": "x"}])
    except KustomizeError:
        assert not -length - 1 <= index <= length
        return
    assert jsonpatch.apply(added, [{"op": "remove", "path": path}]) == before


def test_a_number_written_otherwise_keeps_its_text_only_inside() -> None:
    """What a build gives are plain values that any writer of JSON takes."""
    files = {
        "kustomization.yaml": b"resources: [o.yaml]\n",
        "o.yaml": b"apiVersion: v1\nkind: X\nmetadata: {name: x}\n"
        b"spec: {a: 1.10, b: 0644, c: yes, d: 'q', e: }\n",
    }
    spec = build(MappingFiles(files), "").objects[0]["spec"]
    assert [type(value) for value in spec.values()] == [float, int, str, str, type(None)]
    assert type(spec) is dict


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(a|aa)+b", "(.*)*b", ".*.*.*.*.*.*b", "((a?){20}){20}b", "(a|b|ab)*c"]
)
def test_a_pattern_cannot_run_away(pattern: str) -> None:
    """A pattern that backtracks without end elsewhere is decided at once (S10)."""
    began = time.monotonic()
    assert not regex.compile(pattern)("a" * 60)
    assert time.monotonic() - began < _PATIENCE


def _refused(files: dict[str, bytes]) -> str:
    began = time.monotonic()
    with pytest.raises(GitwrightError) as caught:
        build(MappingFiles(files), "")
    assert time.monotonic() - began < _PATIENCE
    return str(caught.value)


def test_an_alias_bomb_fails_its_own_build() -> None:
    """Aliases of aliases are counted, not made (S10)."""
    lines = ["apiVersion: v1", "kind: X", "metadata: {name: x}", "a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    error = _refused({"kustomization.yaml": b"resources: [o.yaml]\n", "o.yaml": "\n".join(lines).encode()})
    assert "aliasing" in error


def test_maps_without_end_fail_their_own_build() -> None:
    """Nesting is limited, so that no recursion ends the process (S11)."""
    deep = "apiVersion: v1\nkind: X\nmetadata: {name: x}\nspec: " + "{a: " * 9990 + "1" + "}" * 9990
    patch = "patches:\n- patch: |-\n    {apiVersion: v1, kind: X, metadata: {name: x}, spec: {b: c}}\n"
    error = _refused(
        {"kustomization.yaml": f"resources: [o.yaml]\n{patch}".encode(), "o.yaml": deep.encode()}
    )
    assert "deep" in error


def test_items_without_keys_cannot_cost_without_end() -> None:
    """A long list that cannot be merged by its keys is refused, not worked through (S10)."""
    items = [{"image": str(number)} for number in range(20_000)]
    with pytest.raises(KustomizeError, match="cannot be merged"):
        merge.strategic(
            _pod([{"name": str(number)} for number in range(20_000)] + items), _pod(items), schema.built_in()
        )


def test_a_schema_of_the_users_leaves_no_trace() -> None:
    """After a build with a schema of its own, the next one merges by the built-in keys."""
    patch = b"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, tty: true}]}\n"
    pod = b"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: i}]}\n"
    plain = {
        "kustomization.yaml": b"resources: [o.yaml]\npatches: [{path: p.yaml}]\n",
        "o.yaml": pod,
        "p.yaml": patch,
    }
    own = {
        **plain,
        "kustomization.yaml": plain["kustomization.yaml"] + b"openapi: {path: s.json}\n",
        "s.json": b'{"definitions": {}}',
    }
    before = build(MappingFiles(plain), "").objects
    assert build(MappingFiles(own), "").objects != before
    assert build(MappingFiles(plain), "").objects == before


def test_a_patch_that_meets_nothing_names_the_nearest() -> None:
    """The error says which objects come nearest, and where they are."""
    files = {
        "kustomization.yaml": b"resources: [o.yaml]\npatches:\n- patch: "
        b"'{apiVersion: v1, kind: Secret, metadata: {name: wob}}'\n",
        "o.yaml": b"apiVersion: v1\nkind: Secret\nmetadata: {name: web}\n",
    }
    error = _refused(files)
    assert "Secret.v1.[noGrp]/web" in error
    assert "patches[0]" in error
    assert "kustomization.yaml" in error


def test_a_remembered_result_counts_until_something_changes(tmp_path: Any) -> None:
    """The same build is given again, until a file that was read, or that was missing, is another."""
    (tmp_path / "kustomization.yaml").write_text("resources: [o.yaml]\n")
    (tmp_path / "o.yaml").write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: web}\n")
    results, files = Results(), DirectoryFiles(tmp_path)
    first = results.build(files, "")
    assert results.build(files, "") is first
    (tmp_path / "o.yaml").write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: other}\n")
    second = results.build(files, "")
    assert second.objects[0]["metadata"]["name"] == "other"
    (tmp_path / "Kustomization").write_text("resources: []\n")
    with pytest.raises(KustomizeError, match="multiple kustomization files"):
        results.build(files, "")


def test_quotes_are_kept_and_dropped_as_kustomize_does() -> None:
    """A value set where quotes were becomes a text; set on a plain one it stays what it is."""
    assert yaml.styled(yaml.Quoted("1"), 5) == "5"
    assert yaml.styled("one", 5) == 5
    assert type(yaml.styled("one", yaml.Quoted("5"))) is str
