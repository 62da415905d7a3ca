"""What all tests share: where the corpora are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

_DEFAULT_CORPUS = Path(__file__).parent.parent.parent / "shared" / "corpus"


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers of all tests."""
    config.addinivalue_line("markers", "slow: takes minutes; runs in `make real` all the same")


def corpus_path(environment: Mapping[str, str]) -> Path:
    """Say where the corpora are meant to be: GITWRIGHT_CORPUS, else `../shared/corpus` of the checkout."""
    return Path(environment.get("GITWRIGHT_CORPUS") or _DEFAULT_CORPUS).resolve()


def in_ci(environment: Mapping[str, str]) -> bool:
    """Tell whether nothing may be skipped."""
    return environment.get("CI", "").lower() in ("1", "true", "yes")


def missing(what: str, environment: Mapping[str, str]) -> None:
    """Skip the test for something that is not there; in CI fail it.

    Args:
        what: is missing, and how to get it.
        environment: `CI` decides.
    """
    if in_ci(environment):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of the corpora; without it the test is skipped, in CI it fails."""
    path = corpus_path(os.environ)
    if not path.is_dir():
        missing(f"no corpora at {path}; name their folder in GITWRIGHT_CORPUS", os.environ)
    return path
