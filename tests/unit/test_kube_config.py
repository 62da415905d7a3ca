"""Kubeconfigs: merging, every way to authenticate, proxies, and what tenants may not say."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gitwright.kube import config
from gitwright.kube.config import ConfigError, Impersonation
from gitwright.kube.proxy import excluded


def kubeconfig(
    user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None, **context: str
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "clusters": [
            {"name": "c", "cluster": {"server": "https://api.example.com:6443/", **(cluster or {})}}
        ],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u", **context}}],
    }


def write(path: Path, content: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return str(path)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_files_of_kubeconfig_are_merged_first_wins(tmp_path: Path) -> None:
    """Entries and the current context come from the first file that has them; missing files are skipped."""
    one = write(
        tmp_path / "one", {"current-context": "main", "users": [{"name": "u", "user": {"token": "first"}}]}
    )
    two = write(
        tmp_path / "two", {**kubeconfig({"token": "second"}, namespace="team"), "current-context": "x"}
    )
    names = os.pathsep.join([one, str(tmp_path / "missing"), two])
    found = config.load(None, None, {"KUBECONFIG": names})
    assert (found.server, found.token, found.namespace) == ("https://api.example.com:6443", "first", "team")


def test_the_home_directory_is_looked_at_and_a_named_file_alone_counts(tmp_path: Path) -> None:
    """Without KUBECONFIG ~/.kube/config is read; an explicit file excludes all others."""
    write(tmp_path / ".kube" / "config", kubeconfig({"token": "home"}))
    named = write(tmp_path / "named", kubeconfig({"token": "named"}))
    environment = {"HOME": str(tmp_path), "KUBECONFIG": ""}
    assert config.load(None, None, environment).token == "home"
    assert config.load(named, None, environment).token == "named"
    with pytest.raises(ConfigError, match="no such file"):
        config.load(str(tmp_path / "none"), None, environment)


def test_a_context_can_be_named(tmp_path: Path) -> None:
    """The named context is used; an unknown one is refused with the known ones."""
    content = kubeconfig()
    content["contexts"].append({"name": "other", "context": {"cluster": "c", "namespace": "there"}})
    path = write(tmp_path / "k", content)
    assert config.load(path, "other", {}).namespace == "there"
    with pytest.raises(ConfigError, match='context "nope" does not exist') as refused:
        config.load(path, "nope", {})
    assert "main, other" in refused.value.hint


def test_relative_files_are_relative_to_their_kubeconfig(tmp_path: Path) -> None:
    """Certificates, keys, authorities and token files are found next to the kubeconfig."""
    for name in ("crt", "key", "ca"):
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / "sub" / name).write_text(name)
    path = write(
        tmp_path / "sub" / "k",
        kubeconfig(
            {"client-certificate": "crt", "client-key": "key", "tokenFile": "token"},
            {"certificate-authority": "ca", "tls-server-name": "other"},
        ),
    )
    found = config.load(path, None, {})
    assert (found.client_certificate, found.client_key, found.ca) == (b"crt", b"key", b"ca")
    assert found.token_file == str(tmp_path / "sub" / "token")
    assert found.tls_server_name == "other"
    assert not found.insecure


def test_data_wins_over_files_and_secrets_do_not_show(tmp_path: Path) -> None:
    """Inline data is preferred to a file, and no secret appears in the repr."""
    user = {
        "client-certificate": "/none",
        "client-certificate-data": b64("crt"),
        "client-key-data": b64("canary-key"),
        "token": "canary-token",
        "username": "u",
        "password": "canary-password",
    }
    found = config.load(write(tmp_path / "k", kubeconfig(user)), None, {"SECRET": "canary-env"})
    assert found.client_certificate == b"crt"
    assert found.client_key == b"canary-key"
    assert "canary" not in repr(found)


def test_exec_and_impersonation_are_read(tmp_path: Path) -> None:
    """An exec plugin comes with arguments, environment and cluster information; `as` with its groups."""
    user = {
        "as": "jane",
        "as-groups": ["dev"],
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./get-token",
            "args": ["-a"],
            "env": [{"name": "A", "value": "1"}],
            "interactiveMode": "Never",
            "provideClusterInfo": True,
        },
    }
    found = config.load(write(tmp_path / "k", kubeconfig(user)), None, {})
    assert found.impersonate == Impersonation("jane", ("dev",))
    assert found.exec is not None
    assert (found.exec.command, found.exec.args, found.exec.env) == ("./get-token", ("-a",), (("A", "1"),))
    assert found.exec.folder == str(tmp_path)
    assert found.exec.cluster == {"server": "https://api.example.com:6443"}


@pytest.mark.parametrize(
    ("user", "cluster", "message"),
    [
        ({"auth-provider": {"name": "gcp"}}, {}, "auth-provider is not supported"),
        ({"client-key-data": b64("x")}, {}, "needs its key"),
        ({"client-key-data": "***canary"}, {}, "is not base64"),
        ({"token": 17}, {}, "token is not text"),
        ({"as-groups": ["x"]}, {}, "without impersonating a user"),
        ({"as": "x", "as-groups": [" "]}, {}, "blank"),
        ({"exec": {"command": "x", "apiVersion": "v0"}}, {}, "invalid apiVersion"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}, {}, "command is missing"),
        ({"exec": [1]}, {}, "not a map"),
        ({}, {"server": "ftp://x"}, "not a URL"),
        ({}, {"server": "https://[canary"}, "wrong type"),
        ({}, {"insecure-skip-tls-verify": "yes"}, "neither true nor false"),
        ({}, {"insecure-skip-tls-verify": True, "certificate-authority-data": b64("x")}, "insecure flag"),
        ({}, {"proxy-url": "socks5://canary@x"}, "not an http or https URL"),
        ({}, {"certificate-authority": "/none/ca"}, "unable to read certificate-authority"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], message: str
) -> None:
    """A field that is wrong is named with its file, and no value is quoted."""
    path = write(tmp_path / "k", kubeconfig(user, cluster))
    with pytest.raises(ConfigError, match=message) as refused:
        config.load(path, None, {})
    assert path in refused.value.place
    assert "canary" not in str(refused.value)


def test_the_service_account_of_the_pod_is_the_last_resort(tmp_path: Path) -> None:
    """In a pod the mounted token, authority and namespace are used; elsewhere the error says what to do."""
    for name in ("token", "ca.crt", "namespace"):
        (tmp_path / name).write_text(name)
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    found = config.in_cluster(environment, tmp_path)
    assert found.server == "https://[fd00::1]:443"
    assert (found.ca, found.namespace, found.token_file) == (b"ca.crt", "namespace", str(tmp_path / "token"))
    with pytest.raises(ConfigError) as refused:
        config.load(None, None, {"HOME": str(tmp_path)})
    assert "KUBECONFIG" in refused.value.hint


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [
        ("", False),
        ("*", True),
        ("example.com", True),
        (".example.com", True),
        ("*.example.com", True),
        ("ample.com", False),
        ("other.org, api.example.com", True),
        ("api.example.com:6443", True),
        ("api.example.com:443", False),
        ("10.0.0.0/8", False),
    ],
)
def test_no_proxy_is_read_as_go_does(tmp_path: Path, no_proxy: str, direct: bool) -> None:
    """The proxy of the environment is used unless NO_PROXY names the server."""
    path = write(tmp_path / "k", kubeconfig())
    found = config.load(path, None, {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": no_proxy})
    assert found.proxy_url == ("" if direct else "http://proxy:3128")


def test_loopback_networks_and_the_kubeconfigs_own_proxy(tmp_path: Path) -> None:
    """Loopback is always direct, networks match addresses, and proxy-url beats the environment."""
    assert excluded("localhost", 443, "")
    assert excluded("127.0.0.9", 443, "")
    assert excluded("::1", 443, "")
    assert excluded("10.1.2.3", 443, "10.0.0.0/8")
    assert excluded("fd00::2", 443, "[fd00::2]:443")
    assert not excluded("11.1.2.3", 443, "10.0.0.0/8,broken/99,")
    path = write(tmp_path / "k", kubeconfig({}, {"proxy-url": "http://own:1"}))
    assert (
        config.load(path, None, {"https_proxy": "http://env:2", "NO_PROXY": "*"}).proxy_url == "http://own:1"
    )


@pytest.mark.parametrize(
    ("user", "cluster"),
    [
        ({"exec": {"command": "sh", "apiVersion": "client.authentication.k8s.io/v1"}}, {}),
        ({"auth-provider": {"name": "gcp"}}, {}),
        ({"tokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token"}, {}),
        ({"client-certificate": "/etc/x", "client-key": "/etc/y"}, {}),
        ({"client-certificate-data": b64("x"), "client-key": "/etc/y"}, {}),
        ({}, {"certificate-authority": "/etc/x"}),
        ({}, {"insecure-skip-tls-verify": True}),
    ],
)
def test_a_tenants_kubeconfig_names_nothing_outside_itself(
    user: dict[str, Any], cluster: dict[str, Any]
) -> None:
    """Programs, providers, files and unverified servers are refused in a Secret's kubeconfig (S8, S25)."""
    with pytest.raises(ConfigError):
        config.load_untrusted(yaml.safe_dump(kubeconfig(user, cluster)))


def test_a_tenants_kubeconfig_with_data_only_is_accepted() -> None:
    """Tokens and inline certificates work, and flags of the operator allow the rest."""
    assert config.load_untrusted(yaml.safe_dump(kubeconfig({"token": "t"}))).token == "t"
    insecure = yaml.safe_dump(kubeconfig({}, {"insecure-skip-tls-verify": True}))
    assert config.load_untrusted(insecure, allow_insecure=True).insecure


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
known = st.sampled_from(
    [
        "exec",
        "token",
        "as",
        "as-groups",
        "as-user-extra",
        "tokenFile",
        "client-key",
        "username",
        "auth-provider",
    ]
)


@given(st.dictionaries(known, json_values, max_size=4), st.dictionaries(st.just("server"), json_values))
def test_any_garbage_in_a_tenants_kubeconfig_is_only_refused(user: Any, cluster: Any) -> None:
    """Whatever a tenant writes is read or raises ConfigError, and never yields a program or a file."""
    try:
        found = config.load_untrusted(yaml.safe_dump(kubeconfig(user, cluster)))
    except ConfigError:
        return
    assert found.exec is None
    assert found.token_file == ""


@given(st.binary(max_size=200))
def test_any_bytes_as_kubeconfig_are_only_refused(text: bytes) -> None:
    """No byte sequence makes the reader fail in another way than by ConfigError."""
    with pytest.raises(ConfigError):
        config.load_untrusted(text)
