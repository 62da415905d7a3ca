"""Secret values, each unlike anything else, looked for in all that leaves the engine (S17, S21, S22)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.real.conftest import EngineFactory
from tests.real.engine import Engine
from tests.real.flux import (
    JSON,
    KUSTOMIZE,
    OWNER_NAME,
    SOURCE,
    git_repository,
    kustomization,
    request,
    wait_refused,
    wait_settled,
)
from tests.realcluster.api import Api
from tests.realcluster.cluster import Cluster
from tests.servers.git import GitRepo, GitServer

METRICS_TOKEN = "canary-metrics-token-" + secrets.token_hex(8)


@dataclass
class Canaries:
    """Secret values by where they come from."""

    values: dict[str, str] = field(default_factory=dict)

    def make(self, name: str) -> str:
        """Make a value that occurs nowhere else."""
        # Neither too short nor of a form that anything would produce by chance.
        value = f"canary-{name}-{secrets.token_hex(10)}"
        self.values[name] = value
        return value

    def found(self, text: str, *, names: tuple[str, ...] = ()) -> list[str]:
        """Give the names of those that occur in a text, plainly or in base64."""
        return [
            name
            for name, value in self.values.items()
            if (not names or name in names) and any(form in text for form in _forms(value))
        ]


def _forms(value: str) -> Iterator[str]:
    """Give what a value looks like in the open: itself, its random part alone, and in base64."""
    yield value.rpartition("-")[2]
    for shift in range(3):
        # Inside of a longer text base64 begins at one of three places.
        whole = base64.b64encode(b"x" * shift + value.encode()).decode()
        yield whole[4 : len(whole) - 4]


class ProcessWatch:
    """Reads command line and environment of a process' descendants, again and again, until the end.

    Args:
        pid: of the engine; it and all below it are read.
    """

    def __init__(self, pid: int) -> None:
        self.texts: dict[str, None] = {}
        self.programs: set[str] = set()
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ProcessWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            for pid in _family(self._pid):
                self._read(pid)

    def _read(self, pid: int) -> None:
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                self.texts[text] = None
                if name == "cmdline" and pid != self._pid:
                    self.programs.add(Path(text.split(" ")[0]).name)


def _family(pid: int) -> list[int]:
    found, rest = [pid], [pid]
    while rest:
        one = rest.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                with contextlib.suppress(OSError):
                    children = [int(child) for child in (task / "children").read_text().split()]
                    found += children
                    rest += children
    return found


@dataclass
class Stage:
    """What the tests act on."""

    api: Api
    cluster: Cluster
    namespace: str
    git: GitServer
    canaries: Canaries

    async def secret(self, name: str, data: Mapping[str, str]) -> None:
        """Make a Secret in the cluster."""
        metadata = {"name": name, "namespace": self.namespace}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(data)}
        await self.api.apply(body, manager="test")

    async def source(self, name: str, files: Mapping[str, str], url: str = "", **spec: object) -> None:
        """Make a repository and its GitRepository."""
        if not url:
            repository = f"{self.namespace}-{name}"
            GitRepo.create(self.git.root, repository).commit(dict(files))
            url = self.git.url(repository)
        await self.api.apply(git_repository(name, self.namespace, url, **spec), manager="test")

    async def app(self, name: str, **spec: object) -> None:
        """Make a Kustomization of the source of the same name."""
        wanted = kustomization(name, self.namespace, name, targetNamespace=self.namespace, **spec)
        await self.api.apply({**wanted, "spec": {"retryInterval": "2s", **wanted["spec"]}}, manager="test")

    async def public(self) -> str:
        """Give everything that others than readers of Secrets may see of our objects."""
        texts = []
        for version, kind in ((SOURCE, "GitRepository"), (KUSTOMIZE, "Kustomization"), ("v1", "Event")):
            for obj in await self.api.list(version, kind, self.namespace):
                shown = obj if kind == "Event" else {"status": obj.get("status"), "meta": _meta(obj)}
                texts.append(json.dumps(shown, ensure_ascii=False))
        applied = await self.api.list("v1", "Secret", self.namespace, labels=OWNER_NAME)
        # Not its data, but what is said about them.
        texts += [json.dumps(_meta(obj), ensure_ascii=False) for obj in applied]
        return "\n".join(texts)


def _meta(obj: JSON) -> JSON:
    return {"labels": obj["metadata"].get("labels"), "annotations": obj["metadata"].get("annotations")}


def manifest(kind: str, name: str, **content: object) -> str:
    """Give the YAML of an object of the core group."""
    return json.dumps({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content})


async def credentials(stage: Stage) -> None:
    """Git over HTTP with a password, with a wrong password, with a wrong token; ssh with a broken key."""
    make = stage.canaries.make
    stage.git.username, stage.git.password = "reader", make("password")
    await stage.secret("git", {"username": "reader", "password": stage.git.password})
    files = {"map.yaml": manifest("ConfigMap", "map", data={"key": "value"})}
    await stage.source("good", files, secretRef={"name": "git"})
    await stage.app("good")
    await stage.secret("wrong", {"username": "reader", "password": make("wrong-password")})
    await stage.source("wrong", files, secretRef={"name": "wrong"})
    await stage.secret("token", {"bearerToken": make("bearer")})
    await stage.source("token", files, secretRef={"name": "token"})
    key = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{make('key')}\n-----END OPENSSH PRIVATE KEY-----\n"
    known = "127.0.0.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEmtjxR2qSmnqzIGJgFRA1TAXuwLv5/7SBySKTYDAAAA"
    await stage.secret("ssh", {"identity": key, "known_hosts": known, "password": make("passphrase")})
    url = "ssh://git@127.0.0.1:1/repository.git"
    await stage.source("ssh", {}, url=url, secretRef={"name": "ssh"}, timeout="5s")


async def variables(stage: Stage) -> None:
    """Variables of a Secret, used well, and used where the API server refuses what comes out."""
    make = stage.canaries.make
    await stage.secret("values", {"TOKEN": make("variable"), "COUNT": make("variable-for-number")})
    ref: JSON = {"secretRef": {"name": "git"}}
    post: JSON = {"postBuild": {"substituteFrom": [{"kind": "Secret", "name": "values"}]}}
    used = manifest("Secret", "used", stringData={"token": "${TOKEN}"})
    await stage.source("used", {"secret.yaml": used}, **ref)
    await stage.app("used", **post)
    spec = '{"ports": [{"port": "${COUNT}"}]}'
    wrong = f'{{"apiVersion": "v1", "kind": "Service", "metadata": {{"name": "wrong"}}, "spec": {spec}}}'
    await stage.source("misused", {"service.yaml": wrong}, **ref)
    await stage.app("misused", **post)
    # A name that is none, made of a secret.
    named = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Not_${TOKEN}"}}'
    await stage.source("named", {"map.yaml": named}, **ref)
    await stage.app("named", **post)


async def manifests(stage: Stage) -> None:
    """Secrets in Git: a good one, one that the API server refuses, one that is no YAML."""
    make = stage.canaries.make
    ref: JSON = {"secretRef": {"name": "git"}}
    plain = manifest("Secret", "plain", stringData={"password": make("manifest")})
    await stage.source("plain", {"secret.yaml": plain}, **ref)
    await stage.app("plain")
    invalid = manifest(
        "Secret", "invalid", data={"password": make("refused")}, stringData={"more": {"deep": make("deep")}}
    )
    await stage.source("invalid", {"secret.yaml": invalid}, **ref)
    await stage.app("invalid")
    base = manifest("Secret", "immutable", immutable=True, stringData={"password": make("immutable")})
    await stage.source("immutable", {"secret.yaml": base}, **ref)
    await stage.app("immutable")
    broken = (
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: broken\n"
        f'stringData:\n  password: "{make("unfinished")}\n  other: {make("other")}: [\n'
    )
    await stage.source("broken", {"secret.yaml": broken}, **ref)
    await stage.app("broken")


async def changes(stage: Stage) -> None:
    """A Secret that somebody edits, and an immutable one that Git changes."""
    edited = {"stringData": {"password": stage.canaries.make("edited")}}
    await stage.api.patch("v1", "Secret", "plain", stage.namespace, edited, manager="kubectl-edit")
    repository = GitRepo(stage.git.root / f"{stage.namespace}-immutable.git")
    again = manifest(
        "Secret", "immutable", immutable=True, stringData={"password": stage.canaries.make("changed")}
    )
    repository.commit({"secret.yaml": again})
    await request(stage.api, "GitRepository", "immutable", stage.namespace, "again")


async def all_judged(stage: Stage) -> None:
    """Wait until every object says what came of it."""
    api, space = stage.api, stage.namespace
    for name in ("wrong", "token", "ssh"):
        await wait_refused(api, "GitRepository", name, space)
    for name in ("good", "used", "plain", "immutable"):
        await wait_settled(api, "Kustomization", name, space)
    for name in ("misused", "named", "invalid", "broken"):
        found = await wait_refused(api, "Kustomization", name, space)
        assert found["status"]["conditions"], name
    await changes(stage)
    await wait_refused(api, "Kustomization", "immutable", space)


@pytest.fixture
def private_git(tmp_path: Path) -> Iterator[GitServer]:
    """A Git server of this test's own, since it will ask for a password."""
    with GitServer(tmp_path / "git") as server:
        yield server


async def test_no_secret_value_leaves_the_engine(
    cluster: Cluster,
    api: Api,
    namespace: str,
    private_git: GitServer,
    engine: EngineFactory,
    tmp_path: Path,
) -> None:
    """No secret value is in a status, an Event, the log, the metrics, a process list or a file."""
    token = tmp_path / "token"
    token.write_text(METRICS_TOKEN)
    stage = Stage(api, cluster, namespace, private_git, Canaries({"metrics": METRICS_TOKEN}))
    runs = engine(flags={"metrics-token-file": str(token), "log-level": "debug"})
    runs.start()
    with ProcessWatch(runs.pid) as processes:
        for part in (credentials, variables, manifests):
            await part(stage)
        await all_judged(stage)
        time.sleep(1)  # noqa: ASYNC251 - nothing else runs here; the last Events are on their way
    canaries = stage.canaries
    assert len(canaries.values) == 16
    shown = await stage.public()
    # The texts that could have quoted them are there.
    for name in ("misused", "invalid", "broken", "wrong"):
        assert f'"{name}"' in shown or f"/{name}" in shown
    places: dict[str, Callable[[], str]] = {
        "statuses and Events": lambda: shown,
        "log": runs.log_text,
        "metrics": lambda: metrics(runs),
        "process list": lambda: "\n".join(processes.texts),
    }
    leaks = {place: found for place, text in places.items() if (found := canaries.found(text()))}
    assert leaks == {}
    # What runs below the engine was really seen.
    assert {"git", "kubectl"} <= processes.programs, processes.programs
    # What is in Git is in the mirror and the artifact; what is in the cluster's Secrets is in no file.
    of_cluster = tuple(
        name
        for name in canaries.values
        if name in ("password", "wrong-password", "bearer", "key", "passphrase")
        or name.startswith("variable")
    )
    assert len(of_cluster) == 7
    files = {str(path): canaries.found(text, names=of_cluster) for path, text in stored(runs)}
    assert {path: names for path, names in files.items() if names} == {}
    assert len(files) > 10
    await wait_settled(api, "GitRepository", "good", namespace)


def metrics(engine: Engine) -> str:
    url = f"http://127.0.0.1:{engine.health_port}/metrics"
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        text: str = answer.read().decode()
    assert "gitwright_builds_total" in text
    return text


def stored(engine: Engine) -> Iterator[tuple[Path, str]]:
    """Give all files below the engine's folder but its log, as text."""
    for folder, _, names in os.walk(engine.folder):
        for name in names:
            path = Path(folder, name)
            if path != engine.log_file and path.is_file():
                yield path, path.read_bytes().decode("latin-1")
