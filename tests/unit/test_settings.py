"""The table of options, and the reading of flags and environment."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from gitwright.api import manifests
from gitwright.settings import (
    GATES,
    OPTIONS,
    SettingError,
    Settings,
    from_sources,
    option,
    show,
    split_address,
)
from gitwright.settings.option import read

HOME = {"HOME": "/home/user"}


def test_without_anything_the_defaults_hold() -> None:
    """Nothing given gives the defaults, and a cache directory below the home."""
    settings = from_sources({}, HOME)
    assert settings == Settings(storage_path="/home/user/.cache/gitwright")
    assert settings.strict_substitutions
    assert (settings.concurrent, settings.concurrent_sources, settings.requeue_dependency) == (4, 2, 30.0)


def test_the_cache_directory_follows_xdg() -> None:
    """XDG_CACHE_HOME decides over HOME, and without both the option must be given."""
    assert from_sources({}, HOME | {"XDG_CACHE_HOME": "/c/"}).storage_path == "/c/gitwright"
    assert from_sources({"storage-path": "/d"}, {}).storage_path == "/d"
    with pytest.raises(SettingError) as refused:
        from_sources({}, {})
    assert refused.value.place == "--storage-path"


def test_a_flag_wins_over_a_variable() -> None:
    """A flag wins over the environment, the environment over the default, and None is no flag."""
    environment = HOME | {"GITWRIGHT_CONCURRENT": "7"}
    assert from_sources({"concurrent": "9"}, environment).concurrent == 9
    assert from_sources({"concurrent": None}, environment).concurrent == 7
    assert from_sources({"lease_names": ()}, HOME).lease_names == Settings().lease_names


def test_the_runtime_namespace_is_found_as_flux_does() -> None:
    """RUNTIME_NAMESPACE names the namespace, as for Flux's controllers, unless our own variable does."""
    environment = HOME | {"RUNTIME_NAMESPACE": "a"}
    assert from_sources({}, environment).runtime_namespace == "a"
    assert from_sources({}, environment | {"GITWRIGHT_RUNTIME_NAMESPACE": "b"}).runtime_namespace == "b"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("requeue-dependency", "1m30s", 90.0),
        ("min-retry-delay", "20ms", 0.02),
        ("requeue-dependency", 5, 5.0),
        ("render-memory", "4Gi", 4 * 1024**3),
        ("render-memory", "3G", 3 * 1000**3),
        ("lockdown", "true", True),
        ("leader-elect", "False", False),
        ("lockdown", True, True),
        ("lease-names", "a, b", ("a", "b")),
        ("lease-names", ("a,b", "c"), ("a", "b", "c")),
        ("health-addr", ":0", ":0"),
        ("health-addr", "[::1]:80", "[::1]:80"),
        ("log-level", "debug", "debug"),
        ("feature-gates", "StrictPostBuildSubstitutions=false", ("StrictPostBuildSubstitutions=false",)),
    ],
)
def test_values_are_read(name: str, text: Any, value: Any) -> None:
    """Each type of option is read from text, and taken as it is when it has the type already."""
    assert getattr(from_sources({name: text}, HOME), option(name).attribute) == value


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("requeue-dependency", "soon", "not a duration"),
        ("requeue-dependency", "0s", "less than"),
        ("requeue-dependency", "", "empty"),
        ("concurrent", "four", "whole number"),
        ("concurrent", "0", "less than 1"),
        ("concurrent", True, "not of type integer"),
        ("concurrent", 1.5, "not of type integer"),
        ("interval-jitter-percentage", "100", "more than 99"),
        ("render-memory", "1 GB", "not a size"),
        ("lockdown", "maybe", "not true or false"),
        ("health-addr", "localhost", "not host:port"),
        ("health-addr", "a:99999", "not host:port"),
        ("log-level", "loud", "not one of debug"),
        ("feature-gates", "Strict=true", "no feature"),
        ("feature-gates", "StrictPostBuildSubstitutions", "not StrictPostBuildSubstitutions=true"),
        ("lease-names", 5, "not"),
    ],
)
def test_a_bad_value_names_its_option(name: str, text: Any, word: str) -> None:
    """A value that cannot be used is refused by naming the option, the place and the default."""
    with pytest.raises(SettingError) as refused:
        from_sources({name: text}, HOME)
    assert refused.value.place == f"--{name}"
    assert refused.value.message.startswith(f"{name}: ")
    assert word in refused.value.message
    assert refused.value.hint.startswith("default: ")


def test_a_bad_variable_is_named() -> None:
    """An error in the environment names the variable."""
    with pytest.raises(SettingError) as refused:
        from_sources({}, HOME | {"GITWRIGHT_CONCURRENT": "x"})
    assert refused.value.place == "GITWRIGHT_CONCURRENT"


def test_an_unknown_flag_is_refused() -> None:
    """A flag that is in no row of the table is an error."""
    with pytest.raises(SettingError, match="no such option"):
        from_sources({"concurency": "1"}, HOME)


def test_lockdown_turns_every_strict_setting_on() -> None:
    """Lockdown alone sets all strict values at once, from a flag and from the environment alike."""
    for settings in (
        from_sources({"lockdown": True}, HOME),
        from_sources({}, HOME | {"GITWRIGHT_LOCKDOWN": "1"}),
    ):
        assert settings.no_cross_namespace_refs
        assert settings.default_service_account == "default"


def test_lockdown_may_be_sharpened_and_not_loosened() -> None:
    """Under lockdown another default account is allowed, a loose value is a contradiction."""
    strict = {"lockdown": "true", "default-service-account": "nobody"}
    assert from_sources(strict, HOME).default_service_account == "nobody"
    for name in ("no-cross-namespace-refs",):
        with pytest.raises(SettingError) as refused:
            from_sources({"lockdown": "true", name: "false"}, HOME)
        assert refused.value.place == f"--{name}"
    with pytest.raises(SettingError, match="default-service-account to be empty"):
        from_sources({"lockdown": "true", "default-service-account": ""}, HOME)


@pytest.mark.parametrize(
    "flags",
    [
        {"min-retry-delay": "20m"},
        {"lease-duration": "10s", "lease-renew-interval": "10s"},
        {"lease-duration": "1s"},
        {"lease-names": " , "},
    ],
)
def test_values_that_contradict_each_other_are_refused(flags: dict[str, str]) -> None:
    """Delays in the wrong order and an election without a lease are refused."""
    with pytest.raises(SettingError):
        from_sources(flags, HOME)


def test_a_gate_has_its_default_until_it_is_switched() -> None:
    """A feature has the default of the table, and what is given wins."""
    for gate in GATES:
        assert Settings().gate(gate.name) is gate.default
    assert not Settings(feature_gates=("StrictPostBuildSubstitutions=false",)).strict_substitutions
    with pytest.raises(KeyError):
        Settings().gate("NoSuchFeature")


def test_the_artifact_address() -> None:
    """Artifacts are advertised at the address given, else at the one they are served on."""
    assert Settings().artifact_base_url("127.0.0.1", 5) == "http://127.0.0.1:5/"
    assert Settings().artifact_base_url("::1", 5) == "http://[::1]:5/"
    assert Settings(storage_adv_addr="a.b.svc").artifact_base_url("127.0.0.1", 5) == "http://a.b.svc/"


def test_addresses_are_split() -> None:
    """A listening address is host and port, the host without brackets."""
    assert split_address(":9440") == ("", 9440)
    assert split_address("[::1]:0") == ("::1", 0)
    assert split_address("localhost:80") == ("localhost", 80)


@pytest.mark.parametrize("row", OPTIONS, ids=lambda row: str(row.name))
def test_every_row_is_complete_and_reads_its_own_default(row: Any) -> None:
    """Each option has a meaning, a reason, a unit where it is a number, and a default that reads back."""
    assert row.about.text.endswith(".")
    assert row.about.reason
    if row.about.type in ("integer", "duration", "bytes"):
        assert row.about.unit
    if row.default not in ("", ()):
        assert read(row, row.shown, row.flag) == row.default
    assert show(row, row.default) == row.shown


def test_every_field_is_a_row() -> None:
    """The table and the settings have the same names, in the same order."""
    assert [row.attribute for row in OPTIONS] == [field.name for field in dataclasses.fields(Settings)]


def test_no_variable_is_one_that_kubernetes_makes() -> None:
    """A Service named gitwright puts variables into pods; none of them is an option's."""
    made = re.compile(r"^GITWRIGHT_(SERVICE_HOST|SERVICE_PORT.*|PORT.*)$")
    assert [row.variable for row in OPTIONS if made.match(row.variable)] == []


@pytest.mark.parametrize("lockdown", [False, True])
def test_the_installed_command_line_is_understood(lockdown: bool) -> None:
    """Every flag that an installation gives to the engine is an option, with a value it accepts."""
    verb, *flags = manifests.arguments(lockdown, key=True, metrics=True)
    assert verb == "run"
    given = {}
    for flag in flags:
        name, _, value = flag.removeprefix("--").partition("=")
        given[name] = value or "true"
    settings = from_sources(given, {})
    assert settings.lockdown is lockdown
    assert settings.graceful_shutdown_timeout < manifests.GRACE_SECONDS
    assert settings.lease_names == manifests.LEASES
    assert split_address(settings.storage_addr) == ("", manifests.ARTIFACT_PORT)
    assert split_address(settings.health_addr) == ("", manifests.HEALTH_PORT)
