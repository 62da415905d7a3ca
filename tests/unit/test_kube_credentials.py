"""Credential plugins and impersonation headers."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from gitwright.core.errors import Denied
from gitwright.kube import impersonation
from gitwright.kube.config import ConnectionConfig, ExecPlugin
from gitwright.kube.credentials import Credential, CredentialError, Plugin

VERSION = "client.authentication.k8s.io/v1"
START = datetime(2026, 1, 1, tzinfo=UTC)


class Rig:
    """A plugin that is a real program: it counts its runs and prints what the test wants."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        self.folder = folder
        self.now = START
        program = folder / "get-token"
        program.write_text(
            "#!/bin/sh\n"
            'printf x >> "$COUNT"\n'
            'printf "%s" "$KUBERNETES_EXEC_INFO" > "$COUNT.info"\n'
            'printf "%s" "$*" > "$COUNT.args"\n'
            "echo canary-on-stderr >&2\n"
            'cat "$COUNT.answer"\n'
            'exit "$(cat "$COUNT.code")"\n'
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.count = folder / "count"
        self.answer({"token": "t1"})
        self.exits(0)
        settings = {"command": "./get-token", "args": ("-v", "a b"), "folder": str(folder), **spec}
        plugin = ExecPlugin(env=(("COUNT", str(self.count)),), api_version=VERSION, **settings)
        config = ConnectionConfig("https://x", environment={"PATH": os.environ["PATH"]})
        self.plugin = Plugin(plugin, config, Credential(), lambda: self.now)

    def answer(self, status: Any, version: str = VERSION, kind: str = "ExecCredential") -> None:
        body = orjson.dumps({"apiVersion": version, "kind": kind, "status": status})
        (self.folder / "count.answer").write_bytes(body)

    def exits(self, code: int) -> None:
        (self.folder / "count.code").write_text(str(code))

    @property
    def runs(self) -> int:
        return len(self.count.read_text()) if self.count.exists() else 0

    def told(self, what: str) -> str:
        return (self.folder / f"count.{what}").read_text()


async def test_a_plugin_runs_once_until_its_token_expires(tmp_path: Path) -> None:
    """The token of a plugin is kept until expirationTimestamp, then the program runs again."""
    rig = Rig(tmp_path)
    expires = (START + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    rig.answer({"token": "t1", "expirationTimestamp": expires})
    assert (await rig.plugin.current()).authorization == "Bearer t1"
    rig.now += timedelta(minutes=4)
    await rig.plugin.current()
    assert rig.runs == 1
    rig.answer({"token": "t2"})
    rig.now += timedelta(minutes=1)
    assert (await rig.plugin.current()).authorization == "Bearer t2"
    rig.now += timedelta(days=100)
    await rig.plugin.current()
    assert rig.runs == 2
    info = orjson.loads(rig.told("info"))
    assert info == {"apiVersion": VERSION, "kind": "ExecCredential", "spec": {"interactive": False}}
    assert rig.told("args") == "-v a b"


async def test_a_refused_token_makes_the_plugin_run_again(tmp_path: Path) -> None:
    """After a 401 the program runs again, and only another credential is worth another try."""
    rig = Rig(tmp_path)
    used = await rig.plugin.current()
    assert not await rig.plugin.refused(used)
    rig.answer({"token": "t2"})
    assert await rig.plugin.refused(used)
    assert rig.runs == 3


async def test_cluster_information_and_certificates_pass(tmp_path: Path) -> None:
    """A plugin is told of the cluster when it asked for that, and may give a client certificate."""
    rig = Rig(tmp_path, cluster={"server": "https://x"})
    rig.answer({"clientCertificateData": "crt", "clientKeyData": "key"})
    found = await rig.plugin.current()
    assert (found.authorization, found.certificate, found.key) == ("", b"crt", b"key")
    assert orjson.loads(rig.told("info"))["spec"]["cluster"] == {"server": "https://x"}
    assert "key" not in repr(found)


@pytest.mark.parametrize(
    ("status", "version", "kind", "code", "message"),
    [
        ({"token": "canary"}, VERSION, "ExecCredential", 3, "failed with exit code 3"),
        (
            {"token": "canary"},
            "client.authentication.k8s.io/v1beta1",
            "ExecCredential",
            0,
            "returned version",
        ),
        ({"token": "canary"}, VERSION, "Status", 0, "gave no ExecCredential"),
        ({}, VERSION, "ExecCredential", 0, "didn't return a token or cert/key pair"),
        (None, VERSION, "ExecCredential", 0, "didn't return a token or cert/key pair"),
        ({"clientKeyData": "canary", "token": "t"}, VERSION, "ExecCredential", 0, "not both"),
        ({"token": "canary\nX: y"}, VERSION, "ExecCredential", 0, "no token has"),
        ({"token": "t", "expirationTimestamp": "canary"}, VERSION, "ExecCredential", 0, "RFC 3339"),
    ],
)
async def test_a_failing_plugin_is_denied_without_its_words(
    tmp_path: Path, status: Any, version: str, kind: str, code: int, message: str
) -> None:
    """What a plugin does wrong is said in our words; nothing it printed is repeated."""
    rig = Rig(tmp_path)
    rig.answer(status, version, kind)
    rig.exits(code)
    with pytest.raises(CredentialError, match=message) as refused:
        await rig.plugin.current()
    assert isinstance(refused.value, Denied)
    assert "canary" not in str(refused.value)


async def test_a_missing_plugin_says_how_to_get_it(tmp_path: Path) -> None:
    """A program that is not there is named, with the kubeconfig's own hint."""
    rig = Rig(tmp_path, command="gitwright-no-such-program", install_hint="install it")
    with pytest.raises(CredentialError, match="not found") as refused:
        await rig.plugin.current()
    assert refused.value.hint == "install it"


async def test_a_plugin_that_must_ask_a_person_needs_one(tmp_path: Path) -> None:
    """Interactive mode Always without a terminal is refused before anything is started."""
    rig = Rig(tmp_path, interactive_mode="Always")
    with pytest.raises(CredentialError, match="interactive"):
        await rig.plugin.current()
    assert rig.runs == 0


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        ("", ()),
        (" ", ()),
        ("\t", ()),
        ("a\r\nImpersonate-Group: system:masters", ()),
        (" root", ()),
        ("jane", ("",)),
        ("jane", ("dev", " ")),
        ("jane", ("dev\n",)),
        ("jan\u0000e", ()),
    ],
)
def test_a_blank_or_broken_identity_is_denied(user: str, groups: tuple[str, ...]) -> None:
    """Impersonation headers are never made for blanks, nor for what a header would change (S26)."""
    with pytest.raises(Denied):
        impersonation.headers(user, groups)


def test_impersonation_headers_carry_user_and_each_group() -> None:
    """One header names the user and one each group, in order."""
    assert impersonation.headers("system:serviceaccount:a:b", ("x", "y")) == (
        ("Impersonate-User", "system:serviceaccount:a:b"),
        ("Impersonate-Group", "x"),
        ("Impersonate-Group", "y"),
    )
