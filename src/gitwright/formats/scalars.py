"""What a YAML scalar means to Go: pure functions over text.

Role in the flow: shared by the YAML reader, which resolves plain scalars with it, and
the writer, which quotes every string that would be read as something else. It knows
nothing of documents. Source: spec/dependencies.md 6 (Go truth), checked against go-yaml v2.
"""

from __future__ import annotations

import datetime
import re
import struct
from decimal import Decimal
from typing import Any

Scalar = str | int | float | bool | None

_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
_KYAML_WORDS: dict[str, bool | float | None] = {
    word: value
    for word, value in _WORDS.items()
    if not isinstance(value, bool) or word.lower() in ("true", "false")
}
OLD_WORDS = frozenset(word for word in _WORDS if word not in _KYAML_WORDS)
"""What is a boolean to YAML 1.1 alone, such as `yes`."""
# Only a text that begins so can be anything but a string.
_START = frozenset("+-0123456789yYnNtTfFoO~.")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\Z")
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:([Tt ])([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,]([0-9]+))?(Z|[-+][0-9]{2}:[0-9]{2})?)?\Z"
)
_DATE = re.compile(
    r"[0-9]{4}-(1[0-2]|0?[1-9])-([0-2]?[0-9]|3[01])"
    r"(?:[Tt][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?:\.[0-9]+)?(?:Z|[-+][0-9]{2}:[0-9]{2})"
    r"| [0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?:\.[0-9]+)?)?\Z"
)
_FLOAT32 = 3.4e38
_LONGEST = 400
"""Characters; no number that Go's 64 bits hold is longer, and Python's own limit is never met."""


def resolve(text: str) -> Scalar:
    """Give the value of a plain scalar: a boolean, None, an integer, a float, or the text itself.

    A timestamp stays text, as Go's decoding into JSON leaves it. Integers lie in the range of
    int64 and uint64; larger ones become floats. Infinities and NaN are given as floats.
    """
    if text in _WORDS:
        return _WORDS[text]
    if not text or text[0] not in _START or text[0] in "yYnNtTfFoO~" or len(text) > _LONGEST:
        return text
    if text[0] == "." and text[1:2] == "_":
        return text
    plain = text.replace("_", "")
    found = _INTEGER.match(plain)
    if found is not None:
        number = _integer(found)
        if number is not None:
            return number
    if _FLOAT.match(plain):
        value = float(plain)
        return text if value in (float("inf"), float("-inf")) else value
    return text


class WrittenInt(int):
    """An integer that was written otherwise than Python would write it, such as `0644` or `1.0`."""

    text: str


class WrittenFloat(float):
    """A float that was written otherwise than Python would write it, such as `1.10`."""

    text: str


class LooseInt(WrittenInt):
    """An integer that kustomize made of a text without saying what it is; merging makes it a text again."""


class LooseFloat(WrittenFloat):
    """A float of the same kind."""


def loose(text: str) -> Scalar:
    """Give what a text is that kustomize puts where nothing was, without a type."""
    value = resolve_kyaml(text)
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    found = LooseFloat(value) if isinstance(value, float) else LooseInt(value)
    found.text = text
    return found


class WrittenText(str):
    """A text that was written otherwise, which is a date that became RFC 3339 text."""

    text: str


def resolve_kyaml(text: str) -> Scalar:
    """Give what a plain scalar is to yaml.v3, with which kustomize reads objects.

    Fewer words are booleans there, and a timestamp becomes RFC 3339 text on its way through JSON.
    Numbers keep the text they were written with, since kustomize uses it for names and annotations.
    """
    if text in _KYAML_WORDS:
        return _KYAML_WORDS[text]
    if text[0] not in "+-0123456789.":
        return text
    value = resolve(text)
    if isinstance(value, str):
        return _timestamp(text) if _DATE.match(text) else text
    if isinstance(value, float) and value - value == 0:
        value = number(value)
    if value is None or isinstance(value, bool) or str(value) == text:
        return value
    written = WrittenFloat(value) if isinstance(value, float) else WrittenInt(value)
    written.text = text
    return written


def text_of(value: Scalar) -> str:
    """Give the text that a number, boolean or string was written with, as far as it is known."""
    if isinstance(value, str):
        return value.text if isinstance(value, WrittenText) else value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, WrittenInt | WrittenFloat):
        return value.text
    return float_text(value) if isinstance(value, float) else str(value)


def _timestamp(text: str) -> str:
    """Give a timestamp as Go's JSON has it, and any other text as it is."""
    found = _MOMENT.match(text)
    if found is None:
        return text
    year, month, day, mark, hour, minute, second, fraction, zone = found.groups()
    if mark is not None and (mark == " ") != (zone is None):
        return text
    clock = (int(hour or 0), int(minute or 0), int(second or 0))
    try:
        datetime.datetime(int(year), int(month), int(day), *clock)
    except ValueError:
        return text
    shown = "{:02d}:{:02d}:{:02d}".format(*clock)
    digits = (fraction or "")[:9].rstrip("0")
    offset = "Z" if zone in (None, "Z", "+00:00") else zone
    written = WrittenText(
        f"{year}-{int(month):02d}-{int(day):02d}T{shown}{'.' + digits if digits else ''}{offset}"
    )
    written.text = text
    return written


def plain(value: Any) -> Any:
    """Give a value with maps, numbers and texts that remember nothing; most is changed in place."""
    if isinstance(value, dict):
        for key, item in value.items():
            if type(item) not in _PLAIN:
                value[key] = plain(item)
        return value if type(value) is dict else dict(value)
    if isinstance(value, list):
        for index, item in enumerate(value):
            if type(item) not in _PLAIN:
                value[index] = plain(item)
    elif isinstance(value, WrittenFloat):
        return float(value)
    elif isinstance(value, WrittenInt):
        return int(value)
    elif isinstance(value, str):
        return str(value)
    return value


_PLAIN = frozenset((str, int, float, bool, type(None)))


def _integer(found: re.Match[str]) -> int | None:
    sign, hexadecimal, binary, octal, decimal = found.groups()
    if hexadecimal:
        number = int(hexadecimal, 16)
    elif binary:
        number = int(binary, 2)
    elif octal:
        number = int(octal, 8)
    else:
        number = int(decimal)
    if sign == "-":
        return -number if number <= 1 << 63 else None
    # A sign is not part of an unsigned number in Go, so +2^63 and above are floats.
    return number if number < 1 << (63 if sign else 64) else None


def is_plain(text: str) -> bool:
    """Tell whether a string stays a string when written without quotes.

    As go-yaml decides it: also base-60 numbers and dates of YAML 1.1 are quoted.
    """
    return resolve(text) is text and not _SEXAGESIMAL.match(text) and not _DATE.match(text)


def number(value: float) -> int | float:
    """Give a float as Go's JSON round trip leaves it: without a fraction it is an integer below 1e21."""
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def float_text(value: float) -> str:
    """Write a float as Go's FormatFloat(value, 'g', -1, 64) does, such as `1.5e+06`."""
    if value != value:  # the one value that differs from itself is NaN
        return ".nan"
    if value in (float("inf"), float("-inf")):
        return ".inf" if value > 0 else "-.inf"
    sign, digits, _ = Decimal(repr(value)).as_tuple()
    shown = "".join(map(str, digits)).rstrip("0") or "0"
    exponent = Decimal(repr(value)).adjusted() if value else 0
    mark = "-" if sign else ""
    if -4 <= exponent < 6:
        return mark + _fixed(shown, exponent)
    fraction = f".{shown[1:]}" if len(shown) > 1 else ""
    return f"{mark}{shown[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def float32_text(value: float) -> str:
    """Write a float as Go does where a string is expected or for a key: with 32 bits of precision."""
    if abs(value) > _FLOAT32:
        return float_text(value)
    single = struct.pack("f", value)
    short = (f"{value:.{digits}g}" for digits in range(1, 10))
    return next((float_text(float(text)) for text in short if struct.pack("f", float(text)) == single), "0")


def _fixed(digits: str, exponent: int) -> str:
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    return f"{whole}.{digits[exponent + 1 :]}" if len(digits) > exponent + 1 else whole
