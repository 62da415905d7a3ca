"""Which files stay out of an artifact: `.sourceignore`, `spec.ignore` and Flux's defaults.

Role in the flow: between a fetched tree and its artifact. Pure. The syntax is
gitignore's as Flux's matcher reads it; where that differs from Git's own (no
backtracking after `**`, an excluded directory's files can be taken back in),
Flux's reading is the rule. Source: spec/flux-v2.md 2.0; fluxcd/pkg sourceignore.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

IGNORE_FILE = ".sourceignore"

VCS = (".git/", ".gitignore", ".gitmodules", ".gitattributes")
DEFAULTS = (
    *("*.jpg", "*.jpeg", "*.gif", "*.png", "*.wmv", "*.flv", "*.tar.gz", "*.zip"),
    *(".github/", ".circleci/", ".travis.yml", ".gitlab-ci.yml", "appveyor.yml", ".drone.yml"),
    *("cloudbuild.yaml", "codeship-services.yml", "codeship-steps.yml"),
    *("**/.goreleaser.yml", "**/.sops.yaml", "**/.flux.yaml"),
)

_Segment = re.Pattern[str] | None
_ANY_DEPTH = "**"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of an ignore file.

    Args:
        domain: the directory it was found in, as names from the root; it applies below.
        segments: its parts between slashes.
        matchers: for each segment its expression; None for one that can never match.
        include: it starts with `!` and takes files back in.
        directories_only: it ends with a slash.
    """

    domain: tuple[str, ...]
    segments: tuple[str, ...]
    matchers: tuple[_Segment, ...]
    include: bool
    directories_only: bool

    @classmethod
    def parse(cls, line: str, domain: Sequence[str] = ()) -> Pattern:
        """Read one line, which is neither empty nor a comment."""
        include = line.startswith("!")
        text = line[1:] if include else line
        if not text.endswith("\\ "):
            text = text.rstrip(" ")
        directories_only = text.endswith("/")
        if directories_only:
            text = text[:-1]
        segments = tuple(text.split("/"))
        matchers = tuple(_expression(segment) for segment in segments)
        return cls(tuple(domain), segments, matchers, include, directories_only)

    def matches(self, path: Sequence[str], is_dir: bool) -> bool:
        """Tell whether it speaks about a path, given as names from the root."""
        depth = len(self.domain)
        if len(path) <= depth or tuple(path[:depth]) != self.domain:
            return False
        rest = path[depth:]
        return self._by_name(rest, is_dir) if len(self.segments) == 1 else self._by_path(rest, is_dir)

    def _by_name(self, path: Sequence[str], is_dir: bool) -> bool:
        matcher = self.matchers[0]
        if matcher is None:
            return False
        for depth, name in enumerate(path):
            if matcher.fullmatch(name):
                return is_dir or not self.directories_only or depth < len(path) - 1
        return False

    def _by_path(self, path: Sequence[str], is_dir: bool) -> bool:
        position, matched, skipping = 0, False, False
        for number, segment in enumerate(self.segments):
            if segment == "":
                skipping = False
                continue
            if segment == _ANY_DEPTH:
                if number == len(self.segments) - 1:
                    break
                skipping = True
                continue
            matcher = self.matchers[number]
            # "**" within a name means nothing here, and a malformed name matches nothing.
            if _ANY_DEPTH in segment or position >= len(path) or matcher is None:
                return False
            found = _find(matcher, path, position, last=len(path) if skipping else position + 1)
            if found < 0:
                if not skipping:
                    return False
                position, matched = len(path), False
            else:
                position, matched = found + 1, True
            skipping = False
        if self.directories_only and not is_dir and position == len(path):
            return False
        return matched


def _find(matcher: re.Pattern[str], path: Sequence[str], first: int, last: int) -> int:
    return next((place for place in range(first, last) if matcher.fullmatch(path[place])), -1)


def _expression(glob: str) -> _Segment:
    """Translate a glob as Go's filepath.Match reads it; None if it is malformed."""
    # Between stars everything has a fixed length, so the first place where it fits is
    # as good as any: atomic groups keep the time linear in the name (S12).
    parts: list[list[str]] = [[]]
    position = 0
    while position < len(glob):
        letter = glob[position]
        position += 1
        if letter == "*":
            parts.append([])
        elif letter == "?":
            parts[-1].append(".")
        elif letter == "\\":
            if position == len(glob):
                return None
            parts[-1].append(re.escape(glob[position]))
            position += 1
        elif letter == "[":
            parsed = _class(glob, position)
            if parsed is None:
                return None
            text, position = parsed
            parts[-1].append(text)
        else:
            parts[-1].append(re.escape(letter))
    first, *rest = ("".join(part) for part in parts)
    if rest:
        first += "".join(f"(?>.*?{part})" for part in rest[:-1] if part) + f".*{rest[-1]}"
    return re.compile(first, re.DOTALL)


def _class(glob: str, position: int) -> tuple[str, int] | None:
    """Translate the character class that starts behind the bracket at `position`."""
    negated = glob[position : position + 1] == "^"
    position += negated
    ranges: list[str] = []
    while True:
        if position < len(glob) and glob[position] == "]" and ranges:
            inside = "".join(ranges)
            if not inside:
                return ("." if negated else "(?!)"), position + 1
            return f"[{'^' if negated else ''}{inside}]", position + 1
        low = _letter(glob, position)
        if low is None:
            return None
        first, position = low
        last = first
        if glob[position : position + 1] == "-":
            high = _letter(glob, position + 1)
            if high is None:
                return None
            last, position = high
        if last < first:
            # An empty range is legal in Go and contains nothing.
            ranges.append("")
        else:
            ranges.append(f"{re.escape(first)}-{re.escape(last)}")


def _letter(glob: str, position: int) -> tuple[str, int] | None:
    """Read one letter of a class, perhaps escaped; None where Go finds it malformed."""
    if position >= len(glob) or glob[position] in "-]":
        return None
    if glob[position] == "\\":
        position += 1
        if position >= len(glob):
            return None
    # A class needs its closing bracket, so something must follow.
    return (glob[position], position + 1) if position + 1 < len(glob) else None


class Matcher:
    """Decides which paths an artifact leaves out; the last pattern that speaks wins."""

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._patterns = tuple(patterns)[::-1]
        self._by_path = tuple(pattern for pattern in self._patterns if len(pattern.segments) > 1)
        self._names = tuple(pattern.matchers[0] for pattern in self._patterns if len(pattern.segments) == 1)
        self._known: dict[str, bool] = {}

    def excludes(self, path: str, is_dir: bool = False) -> bool:
        """Tell whether a path, such as `docs/a.md`, stays out."""
        names = path.split("/")
        # Most names match no pattern of a single name, and directories' names come again and again.
        for pattern in self._patterns if any(map(self._matters, names)) else self._by_path:
            if pattern.matches(names, is_dir):
                return not pattern.include
        return False

    def _matters(self, name: str) -> bool:
        """Tell whether any pattern of a single name matches this one."""
        known = self._known.get(name)
        if known is None:
            known = any(expression is not None and expression.fullmatch(name) for expression in self._names)
            self._known[name] = known
        return known


def lines(text: str, domain: Sequence[str] = ()) -> list[Pattern]:
    """Read the patterns of an ignore file's text; comments and empty lines vanish."""
    found = []
    for raw in text.split("\n"):
        line = raw.removesuffix("\r")
        if line.strip() and not line.startswith("#"):
            found.append(Pattern.parse(line, domain))
    return found


def matcher(files: Mapping[str, str], spec_ignore: str | None) -> Matcher:
    """Make the matcher of a repository.

    If there is any pattern at all, only the version control files are left out
    besides; if there is none, Flux's long list of defaults applies.

    Args:
        files: text of each `.sourceignore` by its path.
        spec_ignore: the object's `spec.ignore`, or None.
    """
    found: list[Pattern] = []
    for path in sorted(files, key=lambda path: path.split("/")[:-1]):
        found += lines(files[path], path.split("/")[:-1])
    if spec_ignore is not None:
        found += lines(spec_ignore)
    always = [Pattern.parse(line) for line in VCS]
    return Matcher([*always, *(found or [Pattern.parse(line) for line in DEFAULTS])])
