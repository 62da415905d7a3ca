"""How tables, signs, colour and errors look."""

from __future__ import annotations

import io

import pytest

from gitwright.cli.output import (
    Console,
    cell,
    clean,
    human_age,
    object_name,
    presentable,
    table,
    wants_colour,
)
from gitwright.core.errors import Denied, GitwrightError


@pytest.mark.parametrize(
    ("choice", "environment", "terminal", "coloured"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"TERM": "dumb"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {}, True, False),
    ],
)
def test_colour_is_for_terminals(
    choice: str, environment: dict[str, str], terminal: bool, coloured: bool
) -> None:
    """Colour needs a terminal and no NO_COLOR, unless --color says otherwise."""
    assert wants_colour(choice, environment, terminal=terminal) is coloured  # type: ignore[arg-type] # by parameter


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0.9, "0s"),
        (119, "119s"),
        (120, "2m"),
        (301, "5m1s"),
        (3600, "60m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 1800, "3h30m"),
        (9 * 3600 + 1800, "9h"),
        (48 * 3600, "2d"),
        (50 * 3600, "2d2h"),
        (9 * 86400, "9d"),
        (800 * 86400, "2y70d"),
        (3650 * 86400, "10y"),
    ],
)
def test_ages_read_as_kubectl_writes_them(seconds: float, shown: str) -> None:
    """Ages have kubectl's units and steps."""
    assert human_age(seconds) == shown


def test_a_table_is_aligned_and_ends_without_blanks() -> None:
    """Columns line up, wide characters counted twice, and no line ends in blanks."""
    assert table(
        ["NAME", "READY", "MESSAGE"], [["a", "True", ""], ["日本", "False", "no\n  such thing"]]
    ) == [
        "NAME   READY   MESSAGE",
        "a      True",
        "日本   False   no such thing",
    ]


def test_a_stream_of_rows_stays_aligned() -> None:
    """Rows printed later keep the widths of those before, and widen them when they must."""
    widths: list[int] = []
    table(["NAME", "READY"], [["long-name", "True"]], widths=widths)
    assert table(["NAME", "READY"], [["a", "True"]], widths=widths, show_header=False) == ["a           True"]


def test_colour_does_not_move_columns() -> None:
    """Colour is put around cells; without it the same line is left."""
    coloured = table(["NAME", "READY", "MESSAGE"], [["a", "False", "m"]], colour=True)[1]
    assert "\x1b[31mFalse\x1b[0m" in coloured
    assert coloured.replace("\x1b[31m", "").replace("\x1b[0m", "") == "a      False   m"


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "\x9b31m", "a\rb", "\x07"])
def test_text_from_a_cluster_cannot_drive_the_terminal(text: str) -> None:
    """Control characters become visible, in cells and in messages."""
    for shown in (clean(text), cell(text)):
        assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in shown)


def test_objects_are_shown_and_named_as_kubectl_does() -> None:
    """managedFields are left out; names carry the kind in lower case and its group."""
    obj = {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": "a", "managedFields": [{}]},
    }
    assert presentable(obj)["metadata"] == {"name": "a"}
    assert object_name(obj) == "kustomization.kustomize.toolkit.fluxcd.io/a"


def test_an_error_says_object_place_reason_and_hint() -> None:
    """Every part of an error is shown, once, on standard error."""
    err = io.StringIO()
    Console(io.StringIO(), err).error(
        Denied("may not", subject="Kustomization/a/b", place="spec.x", detail="more", hint="do this")
    )
    assert err.getvalue() == "✗ Kustomization/a/b: may not\n  spec.x: more\n  hint: do this\n"


def test_quiet_leaves_warnings_and_failures() -> None:
    """--quiet silences what goes well, never what does not."""
    out, err = io.StringIO(), io.StringIO()
    console = Console(out, err, quiet=True)
    console.action("doing")
    console.success("done")
    console.wait("waiting")
    console.note("none")
    console.warning("careful")
    console.error(GitwrightError("broken"))
    assert err.getvalue() == "⚠ careful\n✗ broken\n"


def test_signs_fall_back_where_the_stream_cannot_show_them() -> None:
    """A stream of another encoding gets plain signs instead of a failure."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Console(io.StringIO(), stream).success("done")
    assert raw.getvalue() == b"+ done\n"
