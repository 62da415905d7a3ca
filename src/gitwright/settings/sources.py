"""From flags and environment to one `Settings`.

Role in the flow: called once by the command line; the environment enters by argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitwright.core import durations
from gitwright.settings.option import Option, SettingError, read, show
from gitwright.settings.table import OPTIONS, Settings, option


def from_sources(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Make the settings of flags and environment.

    A flag wins over a variable, and a variable over what lockdown sets and over the default.

    Args:
        flags: by option name or attribute (`requeue-dependency`, `requeue_dependency`); a text as
            typed, or a value of the option's own type (seconds, bytes); None and an empty tuple
            mean that the flag was not given.
        environment: the process environment; `GITWRIGHT_*` for each option. Variables that
            belong to no option are left alone, because Kubernetes adds some of a Service.

    Raises:
        SettingError: a value cannot be used; `place` names the flag or variable.
    """
    given = _given(flags, environment)
    values: dict[str, Any] = {row.attribute: value for row, (value, _) in given.items()}
    if values.get("lockdown"):
        for row in OPTIONS:
            _lock(row, given.get(row), values)
    if not values.get("storage_path"):
        values["storage_path"] = _cache_directory(environment)
    settings = Settings(**values)
    _consistent(settings)
    return settings


def _given(flags: Mapping[str, Any], environment: Mapping[str, str]) -> dict[Option, tuple[Any, str]]:
    """Collect what was given, with the place it was given at."""
    found: dict[Option, tuple[Any, str]] = {}
    for row in OPTIONS:
        for variable in (row.variable, *row.about.also):
            if environment.get(variable):
                found[row] = (read(row, environment[variable], variable), variable)
                break
    for name, value in flags.items():
        row = option(name)
        if value is not None and value != ():
            found[row] = (read(row, value, row.flag), row.flag)
    return found


def _lock(row: Option, given: tuple[Any, str] | None, values: dict[str, Any]) -> None:
    """Put an option's strict value; what was given may only be as strict."""
    strict = row.about.lockdown
    if strict is None:
        return
    if given is None:
        values[row.attribute] = strict
        return
    value, place = given
    as_strict = value == strict if isinstance(strict, bool) else bool(value)
    if not as_strict:
        raise SettingError(
            f"lockdown does not allow {row.name} to be {show(row, value) or 'empty'}",
            place=place,
            hint=f"leave {row.flag} out, or run without --lockdown",
        )


def _cache_directory(environment: Mapping[str, str]) -> str:
    cache = environment.get("XDG_CACHE_HOME")
    if cache and cache.startswith("/"):
        return f"{cache.rstrip('/')}/gitwright"
    home = environment.get("HOME")
    if not home:
        raise SettingError(
            "there is no directory to keep artifacts in",
            place="--storage-path",
            hint="give --storage-path, or set HOME or XDG_CACHE_HOME",
        )
    return f"{home.rstrip('/')}/.cache/gitwright"


def _consistent(settings: Settings) -> None:
    """Refuse values that do not go together."""
    pairs = (
        ("min-retry-delay", settings.min_retry_delay, "max-retry-delay", settings.max_retry_delay),
        ("lease-renew-interval", settings.lease_renew_interval, "lease-duration", settings.lease_duration),
        ("lease-retry-interval", settings.lease_retry_interval, "lease-duration", settings.lease_duration),
    )
    for low_name, low, high_name, high in pairs:
        if low > high or (low == high and high_name == "lease-duration"):
            raise SettingError(
                f"{low_name} ({durations.show(low)}) must be below {high_name} ({durations.show(high)})",
                place=f"--{low_name}",
            )
    if settings.leader_elect and not settings.lease_names:
        raise SettingError(
            "leader election needs the name of a lease",
            place="--lease-names",
            hint="name one, or give --leader-elect=false",
        )
