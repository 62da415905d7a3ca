"""Every case of our own, the corpora, and trees made by chance: what kustomize gives, we give."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitwright.core.errors import GitwrightError
from gitwright.render.kustomize.build import build
from gitwright.render.kustomize.directory import DirectoryFiles
from tests.kustomize import cases, compare, random_trees

CASES = cases.collected()
RANDOM = int(os.environ.get("GITWRIGHT_RANDOM_TREES", "25"))
"""Trees made by chance; more of them find the differences that docs/kustomize.md names."""


@pytest.fixture(scope="session")
def answers() -> Mapping[str, compare.Answer]:
    """What the oracle says to every case, asked on all cores at once."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(CASES, pool.map(compare.oracle, CASES.values()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, answers: Mapping[str, compare.Answer]) -> None:
    """A case builds to kustomize's objects in kustomize's order, or both refuse it."""
    assert compare.differences(answers[name], compare.ours(CASES[name])) == ""


@pytest.mark.parametrize("name", CASES)
def test_a_second_build_is_the_same(name: str) -> None:
    """A build leaves nothing behind: after any other, it gives what it gave before."""
    assert compare.ours(CASES[name]) == compare.ours(CASES[name])


def test_there_are_enough_cases_of_both_kinds(answers: Mapping[str, compare.Answer]) -> None:
    """At least 150 cases build, and the others are refused by the oracle, not by an accident of the test."""
    refused = {name for name, answer in answers.items() if answer.error}
    assert len(CASES) - len(refused) >= 150
    assert not [name for name in refused if "no such host" in answers[name].error]


def kustomizations(corpus: Path) -> list[Path]:
    """Give the folders of the corpora that have a kustomization, without copies by links."""
    names = ("kustomization.yaml", "kustomization.yml", "Kustomization")
    return sorted({path.parent for name in names for path in corpus.rglob(name) if path.is_file()})


def in_corpus(corpus: Path, folder: Path) -> compare.Answer:
    """Build a folder of the corpora in the tree of its own repository."""
    repository = corpus / folder.relative_to(corpus).parts[0]
    try:
        built = build(DirectoryFiles(repository), str(folder.relative_to(repository)))
    except GitwrightError as error:
        return compare.Answer(error=str(error))
    return compare.given(built)


def test_corpora(corpus: Path) -> None:
    """Every kustomization of the corpora builds to kustomize's objects, or both refuse it."""
    folders = kustomizations(corpus)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        expected = list(pool.map(compare.run, folders))
    found = {}
    for folder, (text, error) in zip(folders, expected, strict=True):
        answer = compare.Answer(error=error) if error else compare.printed(text)
        found[str(folder)] = compare.differences(answer, in_corpus(corpus, folder))
    assert len(found) > 50
    assert {folder: text for folder, text in found.items() if text} == {}


@settings(
    max_examples=RANDOM,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.integers(0, 2**32))
def test_random_trees(seed: int) -> None:
    """A tree made by chance builds to kustomize's objects, or both refuse it."""
    tree = random_trees.make(Random(seed))
    assert compare.differences(compare.oracle(tree), compare.ours(tree)) == ""
