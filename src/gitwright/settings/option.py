"""What an option is, and how one value of it is read and shown.

Role in the flow: the table of options is made of these types; flags and environment are read
by them. It knows types and limits, and no particular option.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from gitwright.core import durations
from gitwright.core.errors import Stalled

PREFIX: Final = "GITWRIGHT_"

Type = Literal["text", "path", "address", "integer", "bytes", "duration", "boolean", "list", "gates"]
Group = Literal["Cluster", "Storage", "Endpoints", "Work", "Tenancy", "Leases", "Build", "Drift", "Output"]
Setting = str | int | float | bool | tuple[str, ...]


class SettingError(Stalled):
    """An option has a value that cannot be used; `place` names the flag or variable."""

    reason = "InvalidSetting"


@dataclass(frozen=True, slots=True)
class Gate:
    """A feature that can be switched: its name, default and meaning."""

    name: str
    default: bool
    about: str


GATES: Final = (
    Gate(
        "StrictPostBuildSubstitutions",
        True,
        "A variable without value and default fails the build; when off, it becomes empty.",
    ),
)


@dataclass(frozen=True, slots=True)
class About:
    """What the table says of an option besides its name and default.

    Args:
        type: how the text of a flag or variable is read.
        group: heading in the reference.
        text: meaning, one sentence.
        reason: why the default is what it is.
        unit: unit of a bare number; empty when there is none.
        least: least value.
        most: greatest value.
        choices: the only values.
        lockdown: value under `--lockdown`; None when lockdown leaves the option alone.
        also: further environment variables, after the one of the option's own name.
    """

    type: Type
    group: Group
    text: str
    reason: str
    unit: str = ""
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    lockdown: Setting | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table, complete.

    Args:
        attribute: field of `Settings`.
        default: value when nothing is given.
        about: everything else.
    """

    attribute: str
    default: Setting
    about: About

    @property
    def name(self) -> str:
        """Name in errors and in mappings of flags, such as `requeue-dependency`."""
        return self.attribute.replace("_", "-")

    @property
    def flag(self) -> str:
        """The flag, such as `--requeue-dependency`."""
        return "--" + self.name

    @property
    def variable(self) -> str:
        """The environment variable, such as `GITWRIGHT_REQUEUE_DEPENDENCY`."""
        return PREFIX + self.attribute.upper()

    @property
    def repeatable(self) -> bool:
        """Whether the flag may be given more than once."""
        return self.about.type in ("list", "gates")

    @property
    def shown(self) -> str:
        """The default as one would write it."""
        return show(self, self.default)


_TRUE: Final = ("true", "1", "yes", "on", "t")
_FALSE: Final = ("false", "0", "no", "off", "f")
_SIZE: Final = re.compile(r"^([0-9]+)(|[kMGT]|[KMGT]i)$")
_POWERS: Final = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_ADDRESS: Final = re.compile(r"^(|[^:\[\]\s]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})$")


def split_address(address: str) -> tuple[str, int]:
    """Split a listening address such as `:9440` or `[::1]:0` into host (without brackets) and port.

    Raises:
        ValueError: it is not `host:port`.
    """
    found = _ADDRESS.match(address)
    if found is None or int(found[2]) > 65535:
        raise ValueError(f"{address!r} is not host:port, such as 127.0.0.1:9440 or :9440")
    return found[1].strip("[]"), int(found[2])


def bracketed(host: str) -> str:
    """Put an IPv6 host into brackets, as URLs want it."""
    return f"[{host}]" if ":" in host else host


def _read_text(row: Option, text: str) -> str:
    if row.about.choices and text not in row.about.choices:
        raise ValueError(f"{text!r} is not one of {', '.join(row.about.choices)}")
    return text


def _read_address(_: Option, text: str) -> str:
    split_address(text)
    return text


def _read_integer(_: Option, text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text.strip()):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _read_bytes(_: Option, text: str) -> int:
    found = _SIZE.match(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a size such as 512Mi or 1Gi")
    base = 1024 if found[2].endswith("i") else 1000
    return int(found[1]) * int(base ** _POWERS[found[2][:1]])


def _read_duration(_: Option, text: str) -> float:
    return durations.parse(text.strip())


def _read_boolean(_: Option, text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError(f"{text!r} is not true or false")
    return word in _TRUE


def _read_list(_: Option, text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def read_gate(text: str) -> tuple[str, bool]:
    """Read `Name=true` or `Name=false`.

    Raises:
        ValueError: it is not of that form, or there is no such feature.
    """
    name, equals, word = text.partition("=")
    if name not in {gate.name for gate in GATES}:
        raise ValueError(f"there is no feature {name!r}; known: {', '.join(gate.name for gate in GATES)}")
    if not equals or word.lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is not {name}=true or {name}=false")
    return name, word.lower() == "true"


def _read_gates(row: Option, text: str) -> tuple[str, ...]:
    parts = _read_list(row, text)
    for part in parts:
        read_gate(part)
    return parts


_READERS: Final[Mapping[Type, Callable[[Option, str], Any]]] = {
    "text": _read_text,
    "path": _read_text,
    "address": _read_address,
    "integer": _read_integer,
    "bytes": _read_bytes,
    "duration": _read_duration,
    "boolean": _read_boolean,
    "list": _read_list,
    "gates": _read_gates,
}


def read(row: Option, value: Any, place: str) -> Any:
    """Turn what was given into the option's type, within its limits.

    Args:
        row: the option.
        value: a text as typed, a value of the option's type, or a sequence of texts.
        place: the flag or variable it was given by, for the error.

    Raises:
        SettingError: the value cannot be used.
    """
    reader = _READERS[row.about.type]
    try:
        if row.repeatable and not isinstance(value, str):
            # A flag given several times; each may itself hold several, with commas.
            read: Any = tuple(part for text in value for part in reader(row, str(text)))
        elif isinstance(value, str):
            read = reader(row, value)
        else:
            read = _typed(row, value)
        _within(row, read)
    except (ValueError, TypeError) as error:
        raise SettingError(
            f"{row.name}: {error}", place=place, hint=f"default: {row.shown or 'empty'}"
        ) from None
    return read


def _typed(row: Option, value: Any) -> Any:
    """Accept a value that is of the option's type already."""
    wanted: tuple[type, ...] = (int, float) if row.about.type == "duration" else (type(row.default),)
    given = type(value)
    # A boolean is an integer to Python, and never meant as one.
    if not issubclass(given, wanted) or (given is bool and bool not in wanted):
        raise TypeError(f"{value!r} is not of type {row.about.type}")
    return float(value) if row.about.type == "duration" else value


def _within(row: Option, value: Any) -> None:
    least, most = row.about.least, row.about.most
    if least is not None and value < least:
        raise ValueError(f"{show(row, value)} is less than {show(row, least)}")
    if most is not None and value > most:
        raise ValueError(f"{show(row, value)} is more than {show(row, most)}")


def show(row: Option, value: Any) -> str:
    """Write a value of an option as one would give it on the command line."""
    match row.about.type:
        case "duration":
            return durations.show(value)
        case "boolean":
            return "true" if value else "false"
        case "list" | "gates":
            return ",".join(value)
        case "bytes":
            return _size(int(value))
        case "integer":
            return str(int(value))
        case _:
            return str(value)


def _size(value: int) -> str:
    for unit, power in (("Gi", 3), ("Mi", 2), ("Ki", 1)):
        if value and value % 1024**power == 0:
            return f"{value // 1024**power}{unit}"
    return str(value)
