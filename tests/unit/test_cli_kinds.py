"""The words of the command line, and the rows made of objects."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitwright.cli import kinds
from gitwright.cli.failures import Misuse
from gitwright.cli.kinds import GIT_REPOSITORY, KUSTOMIZATION, StatusSelector

CORPUS = Path(os.environ.get("GITWRIGHT_CORPUS", "../shared/corpus"))
GOLDEN = CORPUS / "flux2/cmd/flux/testdata/get"
SHA = "696f056df216eea4f9401adbee0ff744d4df390f"
NOW = 1_700_000_000.0


def kustomization(**status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": "app", "namespace": "apps", "creationTimestamp": "2023-11-14T22:00:00Z"},
        "spec": {"path": "./deploy", "sourceRef": {"kind": "GitRepository", "name": "repo"}},
        "status": status,
    }


@pytest.mark.parametrize(
    "words",
    [
        ["ks"],
        ["kustomization"],
        ["Kustomizations"],
        ["kustomizations.kustomize.toolkit.fluxcd.io"],
    ],
)
def test_every_name_of_kustomizations_means_them(words: list[str]) -> None:
    """Kind, plural, short name and full name mean the same kind, in any case of letters."""
    assert kinds.parse(words).kinds == (KUSTOMIZATION,)


@pytest.mark.parametrize(
    "words",
    [
        ["source", "git", "podinfo"],
        ["sources", "git", "podinfo"],
        ["gitrepository", "podinfo"],
        ["GitRepository/podinfo"],
        ["gitrepo/podinfo"],
        ["source", "gitrepositories", "podinfo"],
    ],
)
def test_every_name_of_git_repositories_means_them(words: list[str]) -> None:
    """Flux's `source git` and kubectl's names mean a GitRepository, its name behind it or after a slash."""
    target = kinds.parse(words)
    assert (target.kinds, target.names, target.everything) == ((GIT_REPOSITORY,), ("podinfo",), False)


def test_all_means_every_kind_and_takes_no_name() -> None:
    """`all` and `sources all` mean every kind, sources first, and refuse a name."""
    assert kinds.parse(["all"], allow_all=True).kinds == (GIT_REPOSITORY, KUSTOMIZATION)
    assert kinds.parse(["sources", "all"], allow_all=True).kinds == (GIT_REPOSITORY,)
    with pytest.raises(Misuse, match="takes no names"):
        kinds.parse(["all", "x"], allow_all=True)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ([], "a kind is missing", "kustomizations"),
        (["kustomisation"], "'kustomisation' is not a recognized kind", "did you mean kustomization?"),
        (["source"], "the kind of source is missing", "git"),
        (["source", "ks"], "'ks' is not a kind of source", "git"),
        (["all"], "'all' is not a recognized kind", "kinds:"),
        (["ks/"], "'ks/' names no object", "write ks/NAME"),
        (["ks/a", "gitrepo/b"], "objects of one kind at a time", "once per kind"),
    ],
)
def test_words_that_mean_nothing_are_refused_with_a_hint(words: list[str], message: str, hint: str) -> None:
    """Words that name no kind are wrong usage, and the hint says what would be right."""
    with pytest.raises(Misuse) as caught:
        kinds.parse(words)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("word", ["ks", "Kustomization", "HelmRelease", "hr", "imgpol", "alerts"])
def test_events_know_every_kind_of_flux(word: str) -> None:
    """Events are asked for by kinds that gitwright does not run too."""
    assert kinds.event_kind(word) in kinds.EVENT_KINDS


def test_events_refuse_other_kinds() -> None:
    """A kind that Flux does not have is refused in Flux's words."""
    with pytest.raises(Misuse, match="'Deployment' is not a recognized Flux kind"):
        kinds.event_kind("Deployment")


def test_an_object_without_status_waits_to_be_reconciled() -> None:
    """An object nobody has looked at yet is not ready, in Flux's words."""
    assert kinds.row(KUSTOMIZATION, kustomization(), NOW, with_namespace=False) == [
        "app",
        "",
        "False",
        "False",
        "waiting to be reconciled",
    ]


def test_a_row_shortens_digests_and_a_wide_one_says_more() -> None:
    """Digests are cut to eight characters; wide rows add age, source and path before the message."""
    ready = {"type": "Ready", "status": "True", "message": f"Applied revision: main@sha1:{SHA}"}
    obj = kustomization(lastAppliedRevision=f"main@sha1:{SHA}", conditions=[ready])
    row = kinds.row(KUSTOMIZATION, obj, NOW, with_namespace=True, wide=True)
    assert dict(zip(kinds.headers(KUSTOMIZATION, with_namespace=True, wide=True), row, strict=True)) == {
        "NAMESPACE": "apps",
        "NAME": "app",
        "REVISION": "main@sha1:696f056d",
        "SUSPENDED": "False",
        "READY": "True",
        "AGE": "13m",
        "SOURCE": "GitRepository/apps/repo",
        "PATH": "./deploy",
        "MESSAGE": "Applied revision: main@sha1:696f056d",
    }


def test_a_table_of_several_kinds_names_the_kind() -> None:
    """Where kinds are mixed, the name begins with the kind in lower case, as Flux writes it."""
    assert kinds.row(KUSTOMIZATION, kustomization(), NOW, with_namespace=False, with_kind=True)[0] == (
        "kustomization/app"
    )


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        (None, "branch=master"),
        ({"branch": "main"}, "branch=main"),
        ({"branch": "main", "tag": "v1"}, "tag=v1"),
        ({"tag": "v1", "semver": "1.x"}, "semver=1.x"),
        ({"semver": "1.x", "name": "refs/heads/x"}, "name=refs/heads/x"),
        ({"branch": "main", "commit": SHA}, "commit=696f056d"),
    ],
)
def test_the_reference_that_decides_is_shown(reference: dict[str, str] | None, shown: str) -> None:
    """Of several references the one that Flux follows is shown."""
    assert kinds.git_reference({"spec": {"ref": reference}}) == shown


@pytest.mark.parametrize(
    ("text", "matching"),
    [("ready=true", ["a"]), ("READY=False", ["b"]), ("ready!=true", ["b", "c"]), ("stalled=true", [])],
)
def test_a_status_selector_chooses_by_condition(text: str, matching: list[str]) -> None:
    """Case does not matter; a missing condition equals nothing."""
    found = {
        "a": kustomization(conditions=[{"type": "Ready", "status": "True"}]),
        "b": kustomization(conditions=[{"type": "Ready", "status": "False"}]),
        "c": kustomization(),
    }
    selector = StatusSelector.parse(text)
    assert [name for name, obj in found.items() if selector.matches(obj)] == matching


@pytest.mark.parametrize("text", ["ready", "=true", "ready=", "ready!="])
def test_a_status_selector_needs_both_sides(text: str) -> None:
    """A selector without type or status is wrong usage."""
    with pytest.raises(Misuse, match="expected status selector"):
        StatusSelector.parse(text)


@pytest.mark.parametrize(
    ("objects", "golden", "labels", "selector"),
    [
        ("objects.yaml", "get.golden", {}, ""),
        ("objects.yaml", "get_label_one.golden", {"sharding.fluxcd.io/key": "shard1"}, ""),
        ("status_objects.yaml", "get_status_ready_false.golden", {}, "ready=false"),
        ("status_objects.yaml", "get_status_ready_true.golden", {}, "ready=true"),
        ("status_objects.yaml", "get_status_ready_not_true.golden", {}, "ready!=true"),
    ],
)
def test_tables_say_what_flux_says(objects: str, golden: str, labels: dict[str, str], selector: str) -> None:
    """Of the same objects our table has the cells of Flux's own golden output."""
    if not GOLDEN.is_dir():
        pytest.skip(f"no corpus at {CORPUS}; set GITWRIGHT_CORPUS")
    text = (GOLDEN / objects).read_text().replace("{{ .fluxns }}", "flux-system")
    chosen = StatusSelector.parse(selector) if selector else None
    rows = [
        kinds.row(GIT_REPOSITORY, obj, NOW, with_namespace=False)
        for obj in yaml.safe_load_all(text)
        if obj
        and obj["kind"] == "GitRepository"
        and labels.items() <= obj["metadata"].get("labels", {}).items()
        and (chosen is None or chosen.matches(obj))
    ]
    wanted = [
        [part.strip() for part in line.split("\t")[:5]] for line in (GOLDEN / golden).read_text().splitlines()
    ]
    assert [kinds.headers(GIT_REPOSITORY, with_namespace=False), *rows] == wanted
