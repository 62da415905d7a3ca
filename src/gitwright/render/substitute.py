"""Substitution of `${variables}` in built YAML, as Flux's postBuild does it: pure text in, text out.

Role in the flow: the last step of a render, per resource and on its YAML text, so that a
value may change the type of a field. It knows neither where variables come from nor what
a resource is. Source: spec/flux-v2.md 3.4; behaviour checked against fluxcd/pkg envsubst.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gitwright.core.errors import Stalled

ANNOTATION = "kustomize.toolkit.fluxcd.io/substitute"
DISABLED = "disabled"
_NAME = re.compile(r"[_A-Za-z][_A-Za-z0-9]*\Z")
_PATTERN = "^[_[:alpha:]][_[:alpha:][:digit:]]*$"
_DEFAULTS = frozenset({"=", ":=", ":-", ":+", ":?"})
_DEPTH = 100
"""Levels of `${a:=${b:=...}}`; Flux has no limit, and nobody has written ten."""
MAX_OUTPUT = 32 * 1024 * 1024
"""Characters that one text may grow to (S10)."""
MAX_WORK = 400_000_000
"""Characters that one text's expressions may look at; a pattern with a star looks at a value's length squared
(S12)."""


class SubstitutionError(Stalled):
    """An expression that cannot be read, a variable that is not set, or an impossible name."""

    reason = "BuildFailed"


@dataclass(frozen=True, slots=True)
class Substitution:
    """The variables of a Kustomization's postBuild.

    Args:
        variables: name -> value; values may be secret, so they stay out of this value's text.
        strategy: `WithVariables` substitutes only when there is a variable, `Always` in any case.
        strict: whether an unset variable without a default is an error.
    """

    variables: Mapping[str, str] = field(repr=False)
    strategy: Literal["WithVariables", "Always"] = "WithVariables"
    strict: bool = True

    @property
    def active(self) -> bool:
        """Tell whether anything is substituted at all."""
        return bool(self.variables) or self.strategy == "Always"


def prepare(substitution: Substitution) -> dict[str, str]:
    """Give the variables as Flux uses them: names checked, newlines gone.

    Raises:
        SubstitutionError: a name is none.
    """
    for name in sorted(substitution.variables):
        if not _NAME.match(name):
            raise SubstitutionError(f"'{name}' var name is invalid, must match '{_PATTERN}'")
    return {name: value.replace("\n", "") for name, value in substitution.variables.items()}


def substitute(text: str, variables: Mapping[str, str], *, strict: bool) -> str:
    """Replace every `${...}` of a text.

    Args:
        text: any text.
        variables: name -> value, as `prepare` gives them.
        strict: whether an unset variable without a default is an error.

    Raises:
        SubstitutionError: an expression cannot be read, or a variable is not set.
    """
    if "$" not in text:
        return text
    return _Expander(text, variables, strict=strict).run()


class _Expander:
    """Reads an expression and writes its value in one pass."""

    def __init__(self, text: str, variables: Mapping[str, str], *, strict: bool) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._variables = variables
        self._strict = strict
        self._output = MAX_OUTPUT - len(text)
        self._work = MAX_WORK

    def run(self) -> str:
        """Give the expanded text."""
        # Flux reads the whole text before it looks up a variable, so a malformed expression
        # further down is reported before an unset variable above.
        pieces: list[str | _Call] = []
        while self._at < len(self._text):
            if self._starts("${"):
                self._at += 2
                pieces.append(self._expression())
            else:
                pieces.append(self._outside())
        return "".join(self._value(piece) for piece in pieces)

    def _outside(self) -> str:
        """Read text up to the next `${`; of `$$` one `$` stays and hides what follows it."""
        out: list[str] = []
        while self._at < len(self._text):
            nearest = self._text.find("$", self._at)
            if nearest < 0:
                nearest = len(self._text)
            out.append(self._text[self._at : nearest])
            self._at = nearest
            if self._starts("${"):
                break
            if self._starts("$$"):
                out.append("$")
                self._at += 2
                self._hidden(out)
            elif self._at < len(self._text):
                out.append("$")
                self._at += 1
        return "".join(out)

    def _hidden(self, out: list[str]) -> None:
        # After `$$`, what follows is plain: `$${a}` is `${a}`; a third `$` begins anew.
        if self._peek() not in ("", "$"):
            out.append(self._text[self._at])
            self._at += 1

    def _starts(self, mark: str) -> bool:
        return self._text.startswith(mark, self._at)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _expression(self) -> _Call:
        self._depth += 1
        if self._depth > _DEPTH:
            raise _bad("bad substitution")
        try:
            return self._parse()
        finally:
            self._depth -= 1

    def _parse(self) -> _Call:
        if self._peek() == "#":
            self._at += 1
            call = _Call(self._name("bad substitution"), "#length", ())
            self._close("bad substitution")
            return call
        name = self._name("unable to parse variable name")
        mark = self._peek()
        if mark == ":":
            after = self._text[self._at + 1 : self._at + 2]
            if not after.isascii() or not after:
                raise _bad("bad substitution")
            return self._default(name, 2) if after in "=-?+" else self._slice(name)
        if mark == "=":
            return self._default(name, 1)
        if mark and mark in ",^":
            call = _Call(name, self._run(",^", 2), ())
            self._close("bad substitution")
            return call
        if mark == "/":
            return self._replace(name)
        if mark and mark in "#%":
            operator = self._run(mark, 2)
            argument = self._argument("}", escape=False)
            self._close("bad substitution")
            return _Call(name, operator, (argument,))
        self._close("missing closing brace")
        return _Call(name, "", ())

    def _name(self, problem: str) -> str:
        start = self._at
        while self._at < len(self._text) and _in_name(self._text[self._at]):
            self._at += 1
        if start == self._at:
            raise _bad(problem)
        return self._text[start : self._at]

    def _run(self, marks: str, most: int) -> str:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] in marks and self._at - start < most:
            self._at += 1
        return self._text[start : self._at]

    def _close(self, problem: str) -> None:
        if self._peek() != "}":
            raise _bad(problem)
        self._at += 1

    def _argument(self, stops: str, *, escape: bool) -> str | _Call:
        """Read one argument: a nested expression, or text up to a stop or a nested expression.

        The first character is never a stop unless it is one that Flux refuses there.
        """
        if self._starts("${"):
            self._at += 2
            return self._expression()
        out: list[str] = []
        while self._at < len(self._text):
            if self._starts("${"):
                break
            char = self._text[self._at]
            if escape and (self._starts("$$") or self._starts("\\/") or self._starts("\\\\")):
                # The escaping character goes, the escaped one stays whatever it is.
                out.append(self._text[self._at + 1])
                self._at += 2
                continue
            if char in stops:
                break
            out.append(char)
            self._at += 1
        if not out:
            raise _bad("unable to parse substitution within function")
        return "".join(out)

    def _default(self, name: str, width: int) -> _Call:
        operator = self._text[self._at : self._at + width]
        self._at += width
        parts: list[str | _Call] = []
        while self._peek() != "}":
            parts.append(self._argument("}", escape=False))
        self._close("bad substitution")
        return _Call(name, operator, tuple(parts))

    def _slice(self, name: str) -> _Call:
        self._at += 1
        parts = [self._argument(":}", escape=False)]
        if self._peek() == ":":
            while self._peek() == ":":
                self._at += 1
            parts.append(self._argument("}", escape=False))
        self._close("bad substitution")
        return _Call(name, ":", tuple(parts))

    def _replace(self, name: str) -> _Call:
        self._at += 1
        operator = "/"
        if self._peek() in ("/", "#", "%"):
            operator += self._peek()
            self._at += 1
        parts = [self._argument("/", escape=True)]
        if self._peek() != "/":
            raise _bad("bad substitution")
        while self._peek() == "/":
            self._at += 1
        if self._peek() != "}":
            parts.append(self._argument("}", escape=True))
        self._close("bad substitution")
        return _Call(name, operator, tuple(parts))

    def _value(self, piece: str | _Call) -> str:
        if isinstance(piece, str):
            return piece
        arguments = [self._value(part) for part in piece.arguments]
        value = self._variables.get(piece.name)
        if value is None:
            if self._strict and piece.operator not in _DEFAULTS:
                raise SubstitutionError(
                    f'variable substitution failed: variable not set (strict mode): "{piece.name}"',
                    hint=f"set {piece.name} in spec.postBuild, or write ${{{piece.name}:=default}}",
                )
            value = ""
        self._spend(piece, value, arguments)
        return _OPERATIONS.get(piece.operator, _or_default)(value, arguments)

    def _spend(self, piece: _Call, value: str, arguments: list[str]) -> None:
        """Refuse an expression before it costs more than the limits allow."""
        size = len(value)
        grown = size + sum(map(len, arguments))
        if piece.operator in ("/", "//") and len(arguments) > 1:
            grown += value.count(arguments[0]) * len(arguments[1])
        starred = piece.operator in ("#", "##", "%", "%%") and "*" in arguments[0]
        self._output -= grown
        self._work -= size * size if starred else size
        if self._output < 0 or self._work < 0:
            raise SubstitutionError(f"variable substitution failed: the value of {piece.name} is too large")


@dataclass(frozen=True, slots=True)
class _Call:
    """A parsed expression: variable, operator and arguments."""

    name: str
    operator: str
    arguments: tuple[str | _Call, ...]


def _bad(problem: str) -> SubstitutionError:
    hint = "write $${ where a literal ${ is meant, or annotate the object with " + f"{ANNOTATION}: {DISABLED}"
    return SubstitutionError(f"variable substitution failed: {problem}", hint=hint)


def _in_name(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdecimal()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _slice(value: str, arguments: list[str]) -> str:
    """Cut by bytes, as Go does; what cannot be read as a number leaves the value alone."""
    raw = _bytes(value)
    position = _int(arguments[0])
    if position is None:
        return value
    if position < 0:
        position = max(len(raw) + position, 0)
    end = len(raw)
    if len(arguments) > 1:
        length = _int(arguments[1])
        if length is None:
            return value
        end = min(position + length, len(raw))
        # Go panics on a negative range, which ends Flux's build; an empty string harms nobody.
        end = max(end, position)
    return raw[position:end].decode("utf-8", "replace")


def _int(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None


def _trim(value: str, pattern: str, *, suffix: bool, longest: bool) -> str:
    if suffix:
        return _trim(value[::-1], pattern[::-1], suffix=False, longest=longest)[::-1]
    matches = _glob(pattern)
    if matches is None:
        return value
    sizes = range(len(value), 0, -1) if longest else range(1, len(value) + 1)
    for size in sizes:
        if matches(value[:size]):
            return value[size:]
    return value


def _glob(pattern: str) -> Callable[[str], bool] | None:
    """Make a matcher of a shell pattern; `*` and `?` match a slash too. None when it is malformed."""
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            while pattern[at : at + 1] == "*":
                at += 1
            out.append("*")
        elif char == "?":
            out.append(".")
        elif char == "[":
            found = _glob_class(pattern, at)
            if found is None:
                return None
            text, at = found
            out.append(text)
        elif char == "\\":
            if at == len(pattern):
                return None
            out.append(re.escape(pattern[at]))
            at += 1
        else:
            out.append(re.escape(char))
    chunks = [(re.compile("".join(chunk), re.DOTALL), len(chunk)) for chunk in _chunks(out)]
    return lambda text: _matches(chunks, text)


def _chunks(parts: list[str]) -> list[list[str]]:
    chunks: list[list[str]] = [[]]
    for part in parts:
        if part == "*":
            chunks.append([])
        else:
            chunks[-1].append(part)
    return chunks


def _matches(chunks: list[tuple[re.Pattern[str], int]], text: str) -> bool:
    """Match chunks separated by stars, leftmost first: no backtracking over stars (S12).

    Args:
        chunks: the expression of each chunk, and how many characters it matches: always as many.
        text: what must match as a whole.
    """
    if len(chunks) == 1:
        return chunks[0][0].fullmatch(text) is not None
    first = chunks[0][0].match(text)
    if first is None:
        return False
    at = first.end()
    for chunk, _ in chunks[1:-1]:
        found = chunk.search(text, at)
        if found is None:
            return False
        at = found.end()
    last, width = chunks[-1]
    return len(text) - width >= at and last.fullmatch(text, len(text) - width) is not None


def _glob_class(pattern: str, at: int) -> tuple[str, int] | None:
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[str] = []
    while not (ranges and pattern[at : at + 1] == "]"):
        low = _glob_char(pattern, at)
        if low is None:
            return None
        char, at = low
        last = char
        if pattern[at : at + 1] == "-":
            high = _glob_char(pattern, at + 1)
            if high is None:
                return None
            last, at = high
        if char <= last:
            ranges.append(f"{re.escape(char)}-{re.escape(last)}")
        else:
            ranges.append(f"{re.escape(char)}{re.escape(char)}")
    return f"[{'^' if negated else ''}{''.join(ranges)}]", at + 1


def _glob_char(pattern: str, at: int) -> tuple[str, int] | None:
    """Read one character of a class; it must not be the pattern's last, since a `]` must follow."""
    if pattern[at : at + 1] in ("", "-", "]"):
        return None
    at += pattern[at] == "\\"
    return (pattern[at], at + 1) if at + 1 < len(pattern) else None


def _prefix(value: str, arguments: list[str]) -> str:
    if len(arguments) != 2 or not value.startswith(arguments[0]):
        return value
    return arguments[1] + value[len(arguments[0]) :]


def _suffix(value: str, arguments: list[str]) -> str:
    if len(arguments) != 2 or not value.endswith(arguments[0]):
        return value
    return value[: len(value) - len(arguments[0])] + arguments[1]


def _replaced(value: str, arguments: list[str], count: int) -> str:
    return value.replace(arguments[0], arguments[1] if len(arguments) > 1 else "", count)


def _or_default(value: str, arguments: list[str]) -> str:
    return value or "".join(arguments)


_OPERATIONS: dict[str, Callable[[str, list[str]], str]] = {
    "": lambda value, _: value,
    "#length": lambda value, _: str(len(_bytes(value))),
    ",": lambda value, _: value[:1].lower() + value[1:],
    ",,": lambda value, _: value.lower(),
    "^": lambda value, _: value[:1].upper() + value[1:],
    "^^": lambda value, _: value.upper(),
    "#": lambda value, given: _trim(value, given[0], suffix=False, longest=False),
    "##": lambda value, given: _trim(value, given[0], suffix=False, longest=True),
    "%": lambda value, given: _trim(value, given[0], suffix=True, longest=False),
    "%%": lambda value, given: _trim(value, given[0], suffix=True, longest=True),
    ":": _slice,
    "/#": _prefix,
    "/%": _suffix,
    "/": lambda value, given: _replaced(value, given, 1),
    "//": lambda value, given: _replaced(value, given, -1),
    **dict.fromkeys(_DEFAULTS, _or_default),
}
