"""Substitution of variables behaves as Flux's; expected values were taken from fluxcd/pkg envsubst."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitwright.render.substitute import (
    MAX_OUTPUT,
    Substitution,
    SubstitutionError,
    prepare,
    substitute,
)

VARIABLES = {
    "name": "web.tar.gz",
    "path": "apps/web/base",
    "rooted": "/apps/web",
    "word": "colour",
    "loud": "COLOUR",
    "twice": "abXYab",
    "empty": "",
    "two": "2",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nothing to do", "nothing to do"),
        ("a ${word} b", "a colour b"),
        ("${word}${two}", "colour2"),
        ("${empty}", ""),
        ("${none}", ""),
        ("$word $ $5 {word}", "$word $ $5 {word}"),
        ("${#word}", "6"),
        ("${#none}", "0"),
        ("${word^}", "Colour"),
        ("${word^^}", "COLOUR"),
        ("${loud,}", "cOLOUR"),
        ("${loud,,}", "colour"),
        ("${word:3}", "our"),
        ("${word:1:3}", "olo"),
        ("${word:-3}", "colour"),
        ("${word: -3}", "colour"),
        ("${word:0:-1}", ""),
        ("${word:9}", ""),
        ("${word:2:99}", "lour"),
        ("${word:x}", "colour"),
        ("${word:${two}}", "lour"),
        ("${name#*.}", "tar.gz"),
        ("${name##*.}", "gz"),
        ("${name%.*}", "web.tar"),
        ("${name%%.*}", "web"),
        ("${path#*/}", "web/base"),
        ("${path##*/}", "base"),
        ("${rooted#*/}", "apps/web"),
        ("${path%/*}", "apps/web"),
        ("${word#c?}", "lour"),
        ("${word##[a-d]*l}", "our"),
        ("${word#[^x]}", "olour"),
        ("${word#[}", "colour"),
        ("${word#x}", "colour"),
        ("${none=blue}", "blue"),
        ("${none:=blue}", "blue"),
        ("${none:-blue}", "blue"),
        ("${empty=blue}", "blue"),
        ("${empty:=blue}", "blue"),
        ("${word:=blue}", "colour"),
        ("${none:=}", ""),
        ("${none:+blue}", "blue"),
        ("${word:+blue}", "colour"),
        ("${none:?blue}", "blue"),
        ("${none:=a b: c # d}", "a b: c # d"),
        ("${none:=${word}}", "colour"),
        ("${none:=x-${word^^}-y}", "x-COLOUR-y"),
        ("${none:=${none:=${two}}}", "2"),
        ("${twice/ab/-}", "-XYab"),
        ("${twice//ab/-}", "-XY-"),
        ("${twice/#ab/-}", "-XYab"),
        ("${twice/#XY/-}", "abXYab"),
        ("${twice/%ab/-}", "abXY-"),
        ("${twice//ab/}", "XY"),
        ("${twice/*/-}", "abXYab"),
        (r"${path/\//-}", "apps-web/base"),
        (r"${path//\//-}", "apps-web-base"),
        ("$${word}", "${word}"),
        ("$$$${word}", "$${word}"),
        ("$$ $$", "$ $"),
        ("$${none=${word}}", "${none=colour}"),
        ("${word}$${word}$word", "colour${word}$word"),
        (r"\${word} \\", r"\colour \\"),
        ("${word}}", "colour}"),
    ],
)
def test_expressions_have_the_values_that_flux_gives_them(text: str, expected: str) -> None:
    """Every form of expression, default, escape and nesting gives what Flux's gives."""
    assert substitute(text, VARIABLES, strict=False) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("${", "unable to parse variable name"),
        ("${}", "unable to parse variable name"),
        ("${ word}", "unable to parse variable name"),
        ("${-word}", "unable to parse variable name"),
        ("${word", "missing closing brace"),
        ("${word-blue}", "missing closing brace"),
        ("${word+blue}", "missing closing brace"),
        ("${word?blue}", "missing closing brace"),
        ("${word.x}", "missing closing brace"),
        ("${#}", "bad substitution"),
        ("${#word", "bad substitution"),
        ("${word^^^}", "bad substitution"),
        ("${word/a}", "bad substitution"),
        ("${word/a/b", "bad substitution"),
        ("${word:", "bad substitution"),
        ("${word:}", "unable to parse substitution within function"),
        ("${word#}", "unable to parse substitution within function"),
        ("${none:=blue", "unable to parse substitution within function"),
        ("good ${word} then ${word", "missing closing brace"),
    ],
)
def test_what_flux_cannot_read_is_an_error(text: str, problem: str) -> None:
    """A malformed expression fails with Flux's words, also when an unset variable stands before it."""
    with pytest.raises(SubstitutionError) as caught:
        substitute("${unset}" + text, VARIABLES, strict=True)
    assert caught.value.message == f"variable substitution failed: {problem}"
    assert caught.value.reason == "BuildFailed"


@pytest.mark.parametrize(
    "operator",
    ["", "^", "^^", ",", ",,", ":0", ":0:1", "/a/b", "//a/b", "/#a/b", "/%a/b", "#a", "##a", "%a", "%%a"],
)
def test_strict_mode_names_the_variable_that_is_not_set(operator: str) -> None:
    """An unset variable is an error with every operator that reads it, and an empty one is not."""
    with pytest.raises(SubstitutionError) as caught:
        substitute(f"x ${{none{operator}}} y", VARIABLES, strict=True)
    assert caught.value.message == 'variable substitution failed: variable not set (strict mode): "none"'
    assert substitute(f"x ${{empty{operator}}} y", VARIABLES, strict=True) == "x  y"


@pytest.mark.parametrize("operator", ["=", ":=", ":-", ":+", ":?"])
def test_defaults_hold_in_strict_mode(operator: str) -> None:
    """An unset variable with a default is no error in strict mode."""
    assert substitute(f"${{none{operator}blue}}", VARIABLES, strict=True) == "blue"


def test_a_variable_within_an_unused_default_must_be_set() -> None:
    """In strict mode an unset variable is an error even in a default that is not needed, as in Flux."""
    with pytest.raises(SubstitutionError, match='"none"'):
        substitute("${word:=${none}}", VARIABLES, strict=True)


def test_names_are_checked_and_newlines_removed() -> None:
    """Variables lose their newlines; a name that no expression could use is an error."""
    assert prepare(Substitution({"_a1": "x\ny\n"})) == {"_a1": "xy"}
    with pytest.raises(SubstitutionError) as caught:
        prepare(Substitution({"a": "", "b-c": ""}))
    assert (
        caught.value.message == "'b-c' var name is invalid, must match '^[_[:alpha:]][_[:alpha:][:digit:]]*$'"
    )
    for name in ("", "1a", "a b", "é", "a\n"):
        with pytest.raises(SubstitutionError):
            prepare(Substitution({name: ""}))


def test_when_substitution_takes_place() -> None:
    """Without variables nothing is substituted unless the strategy is Always."""
    assert not Substitution({}).active
    assert Substitution({}, strategy="Always").active
    assert Substitution({"a": "b"}).active


def test_values_stay_out_of_texts() -> None:
    """The text of a Substitution shows no value, which may be secret."""
    assert "hunter2" not in repr(Substitution({"password": "hunter2"}))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${big//a/${big}}", "a" * 100_000),
        ("${big}" * 1000, "a" * 100_000),
        ("${big##*b}" * 1000, "a" * 5_000),
        ("${big%%*a*a*a*a*a*a*b}" * 10, "a" * 10_000),
        ("${a:=" * 10_000 + "x" + "}" * 10_000, ""),
    ],
)
def test_no_expression_costs_more_than_the_limits(text: str, value: str) -> None:
    """Output, work and nesting are bounded: what goes beyond is refused in less than five seconds."""
    started = time.perf_counter()
    with pytest.raises(SubstitutionError):
        substitute(text, {"big": value}, strict=False)
    assert time.perf_counter() - started < 5


def test_a_large_text_is_substituted() -> None:
    """A text of a megabyte with thousands of expressions is well within the limits."""
    text = "key: ${word} and some words that stay as they are\n" * 20_000
    assert len(text) < MAX_OUTPUT
    assert substitute(text, VARIABLES, strict=True) == text.replace("${word}", "colour")


@given(st.text())
def test_text_without_dollars_never_changes(text: str) -> None:
    """Whatever holds no dollar sign comes out as it went in."""
    plain = text.replace("$", "")
    assert substitute(plain, VARIABLES, strict=True) == plain


@given(st.text("a$"))
def test_escaping_doubles_dollars(text: str) -> None:
    """A text whose dollar signs are doubled comes out as the text."""
    assert substitute(text.replace("$", "$$"), VARIABLES, strict=True) == text


@given(st.text("${}:=/#%^,ab\\-0*?[]"))
def test_any_text_ends_in_text_or_a_substitution_error(text: str) -> None:
    """No text makes anything but a result or a SubstitutionError."""
    message = "variable substitution failed: "
    try:
        result = substitute(text, {"a": "ab", "b": ""}, strict=False)
    except SubstitutionError as error:
        message = error.message
        result = ""
    assert isinstance(result, str)
    assert message.startswith("variable substitution failed: ")
