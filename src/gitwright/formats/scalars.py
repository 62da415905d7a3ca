"""What a YAML scalar means to Go: pure functions over text.

Role in the flow: shared by the YAML reader, which resolves plain scalars with it, and
the writer, which quotes every string that would be read as something else. It knows
nothing of documents. Source: spec/dependencies.md 6 (Go truth), checked against go-yaml v2.
"""

from __future__ import annotations

import re
import struct
from decimal import Decimal

Scalar = str | int | float | bool | None

_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
# Only a text that begins so can be anything but a string.
_START = frozenset("+-0123456789yYnNtTfFoO~.")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\Z")
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
