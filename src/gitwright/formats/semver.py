"""Semantic versions and constraints, by the rules of the library that Flux uses.

Role: chooses a Git tag or chart by a range such as `1.x` or `>=1.2 <2 || ^3`.
Pure. Source of the rules: Masterminds semver v3 as Flux's controllers use it
(spec/flux-v2.md 2.1, `ref.semver`); the few that differ from npm's are marked.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_EXTRAS = rf"(?:-({_IDENTIFIERS}))?(?:\+({_IDENTIFIERS}))?"
_VERSION = re.compile(rf"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?{_EXTRAS}", re.ASCII)
_WILD = r"[0-9xX*]+"
_PARTIAL = rf"v?({_WILD})(?:\.({_WILD}))?(?:\.({_WILD}))?{_EXTRAS}"
_TERM = re.compile(rf"(=>|>=|=<|<=|!=|~>|=|>|<|~|\^|)\s*({_PARTIAL})", re.ASCII)
_HYPHEN = re.compile(rf"({_PARTIAL})\s+-\s+({_PARTIAL})", re.ASCII)
_BETWEEN = re.compile(r"\s*,\s*|\s+", re.ASCII)
_MAX_NUMBER = 2**64 - 1
_MAX_TEXT = 1000

_PreKey = tuple[tuple[int, int, str], ...]


@functools.total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A version; build metadata takes no part in comparisons.

    Args:
        major: first number.
        minor: second number.
        patch: third number.
        pre: the pre-release part without its hyphen, or empty.
        metadata: the build metadata without its plus, or empty.
        original: the text it was read from.
    """

    major: int
    minor: int
    patch: int
    pre: str = ""
    metadata: str = ""
    original: str = ""

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read a version; a leading `v` and missing minor or patch are allowed.

        Raises:
            ValueError: the text is not a version.
        """
        found = _VERSION.fullmatch(text) if len(text) <= _MAX_TEXT else None
        if found is None:
            raise ValueError("invalid semantic version")
        major, minor, patch = (int(part or 0) for part in found.group(1, 2, 3))
        if max(major, minor, patch) > _MAX_NUMBER:
            raise ValueError("error parsing version segment: value out of range")
        pre = found.group(4) or ""
        if any(part.isdigit() and len(part) > 1 and part[0] == "0" for part in pre.split(".")):
            raise ValueError("version segment starts with 0")
        return cls(major, minor, patch, pre, found.group(5) or "", text)

    @property
    def _key(self) -> tuple[int, int, int, bool, _PreKey]:
        return (self.major, self.minor, self.patch, not self.pre, _pre_key(self.pre))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        text += f"-{self.pre}" if self.pre else ""
        return text + (f"+{self.metadata}" if self.metadata else "")


def _pre_key(pre: str) -> _PreKey:
    if not pre:
        return ()
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in pre.split("."))


@dataclass(frozen=True, slots=True)
class _Term:
    """One comparison. `given` counts the numbers written out: `*` 0, `1.x` 1, `1.2` 2, `1.2.3` 3."""

    operator: str
    bound: Version
    given: int

    def allows(self, version: Version) -> bool:
        match self.operator:
            case "!=":
                return not self._covers(version)
            case ">":
                return self._above(version)
            case "<":
                return version < self.bound
            case ">=" | "=>":
                return version >= self.bound
            case "<=" | "=<":
                return self._at_most(version)
            case "~" | "~>":
                return self._tilde(version)
            case "^":
                return self._caret(version)
            case _:
                return version == self.bound if self.given == 3 else self._tilde(version)

    def _same(self, version: Version, numbers: int) -> bool:
        ours = (self.bound.major, self.bound.minor, self.bound.patch)
        return (version.major, version.minor, version.patch)[:numbers] == ours[:numbers]

    def _covers(self, version: Version) -> bool:
        """Tell whether `!=` excludes the version."""
        if self.given == 3:
            return version == self.bound
        if self.given == 0:
            # "!=*" compares with 0.0.0, as in the original.
            return self._same(version, 2) and version == self.bound
        if not self._same(version, self.given):
            return False
        if self.given == 2 and (version.pre or self.bound.pre):
            return version.pre == self.bound.pre
        return True

    def _above(self, version: Version) -> bool:
        # ">1" means 2 or higher, ">1.2" means 1.3 or higher.
        if self.given in (1, 2):
            ours = (self.bound.major, self.bound.minor)[: self.given]
            return (version.major, version.minor)[: self.given] > ours
        return version > self.bound

    def _at_most(self, version: Version) -> bool:
        if self.given == 3:
            return version <= self.bound
        if version.major != self.bound.major:
            return version.major < self.bound.major
        return self.given == 1 or version.minor <= self.bound.minor

    def _tilde(self, version: Version) -> bool:
        if version < self.bound:
            return False
        # "~0.0.0" and "*" accept everything from there on (unlike npm's).
        if self.given in (0, 3) and self._same(Version(0, 0, 0), 3):
            return True
        return self._same(version, 1 if self.given == 1 else 2)

    def _caret(self, version: Version) -> bool:
        if version < self.bound:
            return False
        if self.bound.major > 0 or self.given == 1:
            return self._same(version, 1)
        if self.bound.minor > 0 or self.given == 2:
            return self._same(version, 2)
        return self._same(version, 3)


@dataclass(frozen=True, slots=True)
class Constraint:
    """Alternatives joined by `||`, each a list of comparisons that must all hold."""

    text: str
    _alternatives: tuple[tuple[_Term, ...], ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read a constraint.

        Raises:
            ValueError: the text is not a constraint; the message is the original library's.
        """
        if len(text) > _MAX_TEXT:
            raise ValueError(f"improper constraint: longer than {_MAX_TEXT} characters")
        spelled = _HYPHEN.sub(_spell_range, text)
        return cls(text, tuple(_alternative(part) for part in spelled.split("||")))

    def allows(self, version: Version) -> bool:
        """Tell whether a version satisfies it.

        A pre-release only satisfies an alternative that itself names one.
        """
        for terms in self._alternatives:
            if version.pre and not any(term.bound.pre for term in terms):
                continue
            if all(term.allows(version) for term in terms):
                return True
        return False


def _spell_range(found: re.Match[str]) -> str:
    groups = found.groups()
    return f">= {groups[0]}, <= {groups[len(groups) // 2]} "


def _alternative(text: str) -> tuple[_Term, ...]:
    terms: list[_Term] = []
    rest = text.strip(" \t\r\n\f")
    position = 0
    while True:
        found = _TERM.match(rest, position)
        if found is None:
            raise ValueError(f'improper constraint: "{text}"')
        terms.append(_term(found))
        position = found.end()
        if position == len(rest):
            return tuple(terms)
        gap = _BETWEEN.match(rest, position)
        if gap is None:
            raise ValueError(f'improper constraint: "{text}"')
        position = gap.end()


def _term(found: re.Match[str]) -> _Term:
    numbers = found.group(3, 4, 5)
    given = 0
    while given < 3 and numbers[given] is not None and numbers[given] not in ("x", "X", "*"):
        given += 1
    pre = f"-{found.group(6)}" if found.group(6) else ""
    parts = [*numbers[:given], "0", "0", "0"][:3]
    try:
        bound = Version.parse(".".join(parts) + pre)
    except ValueError as error:
        raise ValueError("constraint parser error") from error
    return _Term(found.group(1), bound, given)


def newest(constraint: Constraint, tags: Iterable[str]) -> str | None:
    """Choose the tag with the highest version that a constraint allows, or None.

    Only tags of three numbers count, with or without a leading `v`. Of tags with
    equal versions (build metadata only) the one that sorts last by text wins.
    Source: spec/flux-v2.md 2.1.
    """
    best: tuple[Version, str] | None = None
    for tag in tags:
        if tag.count(".") < 2:
            continue
        try:
            version = Version.parse(tag)
        except ValueError:
            continue
        if constraint.allows(version) and (best is None or (version, tag) > best):
            best = (version, tag)
    return best[1] if best else None
