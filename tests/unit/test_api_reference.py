"""The reference pages, against the code they are made from."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from tools import reference

from gitwright.api import meta
from gitwright.settings import OPTIONS


def test_the_pages_are_up_to_date() -> None:
    """The pages in docs/reference are what the code says today."""
    assert reference.main(["--check"]) == 0


def test_a_stale_page_is_found_and_made_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A check fails on a missing or changed page, names it, and changes nothing; writing settles it."""
    given = ["--folder", str(tmp_path)]
    assert reference.main([*given, "--check"]) == 1
    assert list(tmp_path.iterdir()) == []
    assert reference.main(given) == 0
    assert reference.main([*given, "--check"]) == 0
    page = tmp_path / "settings.md"
    page.write_text(page.read_text() + "by hand\n")
    capsys.readouterr()
    assert reference.main([*given, "--check"]) == 1
    shown = capsys.readouterr()
    assert "settings.md" in shown.err
    assert "-by hand" in shown.out


def test_every_option_is_on_the_page() -> None:
    """Each option has a row with its flag and its variable."""
    page = reference.pages()["settings.md"]
    for row in OPTIONS:
        assert f"| `{row.flag}` | `{row.variable}`" in page


def constants(after: str, before: str) -> set[str]:
    """Give the texts of the constants of api.meta between two comments."""
    text = inspect.getsource(meta)
    section = text[text.index(after) : text.index(before)]
    return {
        ast.literal_eval(line.partition(" = ")[2]) for line in section.splitlines() if ": Final = " in line
    }


def test_every_condition_and_reason_is_described() -> None:
    """Each condition and reason that the code can name has a row, and each row is one of them."""
    conditions = constants("# Types of conditions.", "# Reasons.")
    reasons = constants("# Reasons.", "@dataclass")
    assert {doc.type for doc in meta.CONDITIONS} == conditions
    assert {doc.name for doc in meta.REASONS} == reasons
    assert len(meta.REASONS) == len(reasons)
