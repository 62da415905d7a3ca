"""Go's regular expressions over short texts, in bounded time.

Role in the flow: selectors compile patterns of users here. Python's engine can backtrack for
years over a pattern that Go's runs in linear time, so a pattern with more than one open
repetition runs on a simulation of its automaton. Knows nothing of objects.
Source: spec/security.md S10; Go regexp/syntax.
"""

from __future__ import annotations

import re
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Callable
from typing import Any

# What Python knows and Go refuses: look-around, references, conditionals, atomic and possessive parts.
_REFUSED = re.compile(r"\(\?(?:[=!>#(]|<[=!]|P=)|(?<!\\)(?:\\\\)*\\(?:[1-9]|Z|N\{|u|U)|[*+?}]\+")
_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7F",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_LIMIT = 1000
"""Go refuses a repetition of more; and states of an automaton."""
_STATES = 20_000


def compile(pattern: str) -> Callable[[str], bool]:
    """Compile a pattern that must match a whole text.

    Raises:
        ValueError: Go would refuse it; the text says why.
    """
    if _REFUSED.search(pattern):
        raise ValueError("invalid or unsupported Perl syntax")
    text = re.sub(r"\[:(\w+):\]", lambda found: _posix(found[1]), pattern)
    text = text.replace(r"\z", r"\Z")
    text = re.sub(r"\(\?<([A-Za-z_])", r"(?P<\1", text)
    try:
        parsed = parser.parse(text, re.ASCII)
        simple = _open_repetitions(parsed) < 2
        if simple:
            expression = re.compile(text, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if simple:
        return lambda given: expression.fullmatch(given) is not None
    return _Automaton(parsed).matches


def _posix(name: str) -> str:
    if name not in _POSIX:
        raise ValueError(f"invalid character class range: `[:{name}:]`")
    return _POSIX[name]


def _open_repetitions(parsed: Any) -> int:
    """Count what can match texts of many lengths: only several of those together backtrack badly."""
    count = 0
    for code, argument in parsed:
        name = str(code)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, body = argument
            if most != parser.MAXREPEAT and most > _LIMIT:
                raise ValueError("invalid repeat count")
            inside = _open_repetitions(body)
            count += 2 * inside + (1 if most != least else 0)
        elif name == "SUBPATTERN":
            count += _open_repetitions(argument[-1])
        elif name == "BRANCH":
            count += 1 + sum(_open_repetitions(branch) for branch in argument[1])
    return count


class _Automaton:
    """A pattern's automaton, run for all its states at once.

    Args:
        parsed: the pattern, taken apart by Python's own parser.
    """

    def __init__(self, parsed: Any) -> None:
        self._tests: list[Callable[[str], bool] | None] = []
        self._next: list[list[int]] = []
        self._guards: list[str] = []
        self._last = self._state()
        self._fold = bool(parsed.state.flags & re.IGNORECASE)
        self._first = self._sequence(parsed, self._last)

    def matches(self, text: str) -> bool:
        """Tell whether the whole text is matched."""
        states = self._closure([self._first], text, 0)
        for position, character in enumerate(text):
            reached = [
                follower
                for state in states
                if (test := self._tests[state]) is not None and test(character)
                for follower in self._next[state]
            ]
            states = self._closure(reached, text, position + 1)
            if not states:
                return False
        return self._last in states

    def _closure(self, states: list[int], text: str, position: int) -> set[int]:
        found: set[int] = set()
        pending = list(states)
        while pending:
            state = pending.pop()
            if state in found or not self._passes(self._guards[state], text, position):
                continue
            found.add(state)
            if self._tests[state] is None:
                pending.extend(self._next[state])
        return found

    @staticmethod
    def _passes(guard: str, text: str, position: int) -> bool:
        if not guard:
            return True
        if guard in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
            return position == 0
        if guard in ("AT_END", "AT_END_STRING"):
            return position == len(text)
        before = position > 0 and bool(re.match(r"\w", text[position - 1], re.ASCII))
        after = position < len(text) and bool(re.match(r"\w", text[position], re.ASCII))
        return (before != after) == (guard == "AT_BOUNDARY")

    def _state(
        self, test: Callable[[str], bool] | None = None, to: tuple[int, ...] = (), guard: str = ""
    ) -> int:
        if len(self._tests) >= _STATES:
            raise ValueError("expression too large")
        self._tests.append(test)
        self._next.append(list(to))
        self._guards.append(guard)
        return len(self._tests) - 1

    def _sequence(self, parsed: Any, to: int) -> int:
        for code, argument in reversed(list(parsed)):
            to = self._one(str(code), argument, to)
        return to

    def _one(self, name: str, argument: Any, to: int) -> int:
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, body = argument
            return self._repeat(least, most, body, to)
        if name == "SUBPATTERN":
            return self._sequence(argument[-1], to)
        if name == "BRANCH":
            return self._state(None, tuple(self._sequence(branch, to) for branch in argument[1]))
        if name == "AT":
            return self._state(None, (to,), str(argument))
        return self._state(_test(name, argument, self._fold), (to,))

    def _repeat(self, least: int, most: Any, body: Any, to: int) -> int:
        if most is parser.MAXREPEAT:
            loop = self._state(None, (to,))
            self._next[loop].insert(0, self._sequence(body, loop))
            to = loop
        else:
            end = to
            for _ in range(most - least):
                to = self._state(None, (self._sequence(body, to), end))
        for _ in range(least):
            to = self._sequence(body, to)
        return to


def _test(name: str, argument: Any, fold: bool) -> Callable[[str], bool]:
    """Make a test for one character of the part of a pattern that takes one."""
    flags = re.ASCII | (re.IGNORECASE if fold else 0)
    if name == "LITERAL":
        source = re.escape(chr(argument))
    elif name == "NOT_LITERAL":
        source = f"[^{re.escape(chr(argument))}]"
    elif name == "ANY":
        source = "."
    elif name == "IN":
        source = _set(argument)
    else:
        raise ValueError("invalid or unsupported Perl syntax")
    expression = re.compile(source, flags)
    return lambda character: expression.match(character) is not None


_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


def _set(items: Any) -> str:
    source = ""
    for code, argument in items:
        name = str(code)
        if name == "NEGATE":
            source = "^" + source
        elif name == "LITERAL":
            source += re.escape(chr(argument))
        elif name == "RANGE":
            source += f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}"
        else:
            source += _CATEGORIES[str(argument)]
    return f"[{source}]"
