"""Resource quantities such as `500m` and `1Gi`, written as Go writes them.

Role in the flow: objects that pass through Kubernetes' Go types come out with their
quantities in canonical form; whoever wants to apply the same bytes as Flux needs the
same form. Pure; knows nothing of objects or fields.

Source: k8s.io/apimachinery, pkg/api/resource (behaviour, including where it keeps the
text as it was written).
"""

from __future__ import annotations

import re
from typing import NamedTuple

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX = {exponent: suffix for suffix, exponent in _BINARY.items()}
_SHAPE = re.compile(r"([+-]?)0*([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)
_EXPONENT = re.compile(r"[eE]([-+]?[0-9]+)", re.ASCII)

_MAX = 2**63 - 1
_NANO = -9
# Go would spend its time on the digits of 1e1000000000; no quantity means that.
_MAX_EXPONENT = 4096


class _Suffix(NamedTuple):
    form: str  # "decimal", "binary" or "exponent"
    power: int


def canonical(text: str) -> str:
    """Write a quantity in Go's canonical form: `1000m` is `1`, `0.5` is `500m`, `1024Mi` is `1Gi`.

    Args:
        text: the quantity; blanks around it are allowed.

    Raises:
        ValueError: the text is no quantity.
    """
    text = text.strip(" ")
    match = _SHAPE.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a quantity such as 500m, 2 or 1Gi")
    sign, whole, fraction, unit = match.groups()
    suffix = _suffix(unit)
    whole, fraction = whole or "0", fraction or ""
    fast = _fast(whole, fraction, suffix)
    if fast is None:
        if not any(map(str.isdigit, text.removesuffix(unit))):
            raise ValueError(f"{text!r} has no digits")
        return _slow(sign, whole, fraction, suffix)
    mantissa, scale, verbatim = fast
    return text if verbatim else _write(-mantissa if sign == "-" else mantissa, scale, suffix.form)


def _suffix(unit: str) -> _Suffix:
    if unit in _DECIMAL:
        return _Suffix("decimal", _DECIMAL[unit])
    if unit in _BINARY:
        return _Suffix("binary", _BINARY[unit])
    match = _EXPONENT.fullmatch(unit)
    if match is None:
        raise ValueError(f"{unit!r} is not the suffix of a quantity")
    power = int(match.group(1))
    if abs(power) > _MAX_EXPONENT:
        raise ValueError(f"{unit!r} is beyond what a quantity can mean")
    return _Suffix("exponent", power)


def _fast(whole: str, fraction: str, suffix: _Suffix) -> tuple[int, int, bool] | None:
    """Read what fits 64 bits; the last item tells that Go keeps such a text as it stands."""
    if suffix.form == "binary":
        if fraction or 15 - len(whole) - suffix.power * 3 // 10 - 1 < 0:
            return None
        value, scale = int(whole), 0
        mantissa = value << suffix.power
        return (mantissa, scale, suffix.power % 10 == 0 and value & 7 != 0)
    scale = suffix.power - len(fraction)
    shifted = whole + fraction
    if len(shifted) > 18 or scale < _NANO:
        return None
    verbatim = scale % 3 == 0 and not shifted.endswith("000") and shifted[0] != "0"
    return (int(shifted), scale, verbatim)


def _slow(sign: str, whole: str, fraction: str, suffix: _Suffix) -> str:
    unscaled, scale = int(whole + fraction), -len(fraction)
    if suffix.form == "binary":
        unscaled <<= suffix.power
    else:
        scale += suffix.power
    form = suffix.form
    if unscaled and scale != _NANO:
        # Anything is at least the smallest quantity: Go rounds away from zero.
        unscaled = _rescale(unscaled, scale, _NANO)
        scale = _NANO
    if form == "binary" and unscaled:
        if unscaled > _MAX * 10**9:
            unscaled, scale = _MAX, 0
        elif unscaled < 10**9:
            form = "decimal"
    return _write(-unscaled if sign == "-" else unscaled, scale, form)


def _rescale(unscaled: int, scale: int, wanted: int) -> int:
    if scale >= wanted:
        return int(unscaled * 10 ** (scale - wanted))
    return int(-(-unscaled // 10 ** (wanted - scale)))


def _write(mantissa: int, scale: int, form: str) -> str:
    if mantissa == 0:
        return "0"
    if form == "binary":
        unit = 10 ** max(-scale, 0)
        whole, rest = divmod(abs(mantissa), unit)
        if whole >= 1024 and not rest:
            power = 0
            while whole % 1024 == 0:
                whole //= 1024
                power += 10
            return f"{'-' if mantissa < 0 else ''}{whole}{_BINARY_SUFFIX.get(power, '')}"
        form = "decimal"
    while mantissa % 10 == 0:
        mantissa //= 10
        scale += 1
    while scale % 3:
        mantissa *= 10
        scale -= 1
    if form == "exponent":
        return f"{mantissa}e{scale}" if scale else str(mantissa)
    return f"{mantissa}{_DECIMAL_SUFFIX.get(scale, '')}"
