"""Semantic versions and constraints as Flux reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitwright.formats.semver import Constraint, Version, newest

ALLOWED = [
    ("=2.0", "2.0.1"),
    ("!=4.1.0", "4.1.1"),
    ("!=4.1-alpha", "4.1.0"),
    ("!=4.x", "5.1.0"),
    ("<=11", "11.2.3"),
    ("<=1.1", "1.1.1"),
    (">11.1", "11.2.1"),
    (">0.0.0-0", "0.0.0-alpha"),
    (">=0-0", "0.0.1-alpha"),
    ("*", "4.5.6"),
    ("*-0", "1.2.3-alpha.1"),
    ("2.1.*", "2.1.1"),
    ("~1.2.3-beta.2", "1.2.4-beta.2"),
    ("~0.0.0", "1.2.3"),
    ("~>1.2", "1.2.9"),
    ("^1.2", "1.8.9"),
    ("^0.2.3", "0.2.9"),
    ("^0.0.3", "0.0.3"),
    (">=1.1, <2, !=1.2.3 || > 3", "4.1.2"),
    (">= 1.0.0  <= 2.0.0-beta", "1.0.1-beta"),
    ("1.5.0 - 4.5", "3.7.0"),
    ("1.0.0 - 2.0.0, <=2.0.0", "1.5.0"),
    ("v1.x", "v1.4.0"),
]
REFUSED = [
    ("=2.0.0", "1.2.3"),
    ("!=4.1", "4.1.1"),
    ("<1.x", "1.1.1"),
    ("<=1.1.x", "1.2.500"),
    (">11", "11.1.0"),
    (">11.1", "11.1.1"),
    (">0", "0.0.1-alpha"),
    ("*", "1.2.3-alpha.1"),
    ("1.x", "2.0.0"),
    ("~1.2", "1.3.4"),
    ("^1.2.0", "1.2.1-alpha.1"),
    ("^1.2.0-alpha.2", "1.2.0-alpha.1"),
    ("^0.2.3", "0.3.0"),
    ("^0.0.3", "0.0.4"),
    ("0.0.x", "1.2.3"),
    ("1.1-3", "4.3.2"),
    (">=1.1 <2 !=1.2.3 || > 3", "3.0.0"),
]


@pytest.mark.parametrize(("constraint", "version"), ALLOWED)
def test_constraint_allows(constraint: str, version: str) -> None:
    """A constraint allows what Flux's library allows."""
    assert Constraint.parse(constraint).allows(Version.parse(version))


@pytest.mark.parametrize(("constraint", "version"), REFUSED)
def test_constraint_refuses(constraint: str, version: str) -> None:
    """A constraint refuses what Flux's library refuses, pre-releases above all."""
    assert not Constraint.parse(constraint).allows(Version.parse(version))


@pytest.mark.parametrize(
    "text", ["", "foo", ">=", "1.2.3~1.2.3", "1 || ", ">> 1", "1.2.3.4", "01x.2", "x" * 2000]
)
def test_improper_constraints_are_refused(text: str) -> None:
    """A text that is no constraint raises and says so."""
    with pytest.raises(ValueError, match=r"constraint"):
        Constraint.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "a", "1.2.3.4", "1..2", "-1.0.0", "1.2.3-01", "1.2.3+", "99999999999999999999.0.0", "1.2.3\n"],
)
def test_improper_versions_are_refused(text: str) -> None:
    """A text that is no version raises."""
    with pytest.raises(ValueError):
        Version.parse(text)


def test_versions_have_the_order_of_semver() -> None:
    """Pre-releases come before their release, numbers before words, longer after shorter."""
    ordered = ["1.0.0-1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    ordered += ["1.0.0-rc.1", "1.0.0", "1.0.1", "1.2", "1.10", "2"]
    versions = [Version.parse(text) for text in ordered]
    backwards = versions[::-1]
    backwards.sort()
    assert backwards == versions
    assert [str(version) for version in versions[-2:]] == ["1.10.0", "2.0.0"]
    assert Version.parse("1.0.0+a") == Version.parse("v1.0.0+b")


def test_newest_takes_the_highest_tag_of_three_numbers() -> None:
    """The highest allowed tag wins; tags that are no versions or lack a number are not looked at."""
    tags = ["1.0.0", "v1.10.0", "1.9.9", "1.11", "2.0.0", "latest", "1.99.0-rc.1"]
    assert newest(Constraint.parse("1.x"), tags) == "v1.10.0"
    assert newest(Constraint.parse(">=3"), tags) is None
    assert newest(Constraint.parse("1.x-0"), tags) == "1.99.0-rc.1"


def test_equal_versions_are_chosen_between_in_a_fixed_way() -> None:
    """Of tags that differ in build metadata only, the same one wins whatever their order."""
    tags = ["1.0.0+b", "1.0.0+a", "1.0.0"]
    assert newest(Constraint.parse("1.x"), tags) == newest(Constraint.parse("1.x"), tags[::-1]) == "1.0.0+b"


_numbers = st.integers(0, 40)


@given(_numbers, _numbers, _numbers, _numbers, _numbers, _numbers)
def test_ranges_agree_with_comparisons(a: int, b: int, c: int, x: int, y: int, z: int) -> None:
    """For whole releases every operator says what the order of versions says."""
    bound, version = Version(a, b, c), Version(x, y, z)
    text = f"{a}.{b}.{c}"
    assert Constraint.parse(f">={text}").allows(version) == (version >= bound)
    assert Constraint.parse(f"<{text}").allows(version) == (version < bound)
    assert Constraint.parse(f"={text}").allows(version) == (version == bound)
    assert Constraint.parse(f"!={text}").allows(version) == (version != bound)
    tilde = bound <= version < Version(a, b + 1, 0) or (bound == Version(0, 0, 0) and version >= bound)
    assert Constraint.parse(f"~{text}").allows(version) == tilde


@given(st.text(alphabet="0123456789.xX*v<>=!~^|, -+ab", max_size=60))
def test_any_text_is_a_constraint_or_a_clear_error(text: str) -> None:
    """No text makes the parser fail in another way, and a parsed one always answers."""
    try:
        constraint = Constraint.parse(text)
    except ValueError:
        return
    assert constraint.allows(Version(1, 2, 3)) in (True, False)
