"""From a GitRepository's spec to its artifact: real git, real store."""

from __future__ import annotations

import asyncio
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from gitwright.artifact.store import Artifact, Store
from gitwright.core.errors import GitwrightError, Stalled
from gitwright.source.git_repository import AccessInvalid, GitSpec, Observed, credentials, observe
from gitwright.transport.git import GitError, GitReference, Mirrors
from tests.sandbox.git_fixtures import MAIN, Bench, bench
from tests.servers.git import Executable, GitServer, Link, git, make_key

__all__ = ["bench"]


class Engine:
    """One process of the engine as far as a source goes: mirrors and a store."""

    def __init__(self, bench: Bench) -> None:
        self.mirrors: Mirrors = bench.mirrors()
        self.store = Store(bench.folder / "store", base_url="http://x", key=b"k" * 32, clock=lambda: 1e9)
        self.announced: list[str] = []

    async def look(self, spec: GitSpec) -> Observed:
        """Reconcile once, as a controller would."""
        current: Artifact | None = await self.store.open("GitRepository", "ns", "repo")

        async def announce(revision: str) -> None:
            self.announced.append(revision)

        return await observe(
            spec,
            mirrors=self.mirrors,
            store=self.store,
            namespace="ns",
            name="repo",
            current=current,
            on_new=announce,
        )


def members(bench: Bench, artifact: Artifact) -> list[str]:
    """List the files in an artifact's archive."""
    name = artifact.revision.rpartition(":")[2] + ".tar.gz"
    with tarfile.open(bench.folder / "store/gitrepository/ns/repo" / name) as tar:
        return [info.name for info in tar if info.isfile()]


async def test_a_commit_becomes_an_artifact(bench: Bench) -> None:
    """The artifact has Flux's revision, the commit's files, and the event has the commit's subject."""
    sha = bench.repo().commit({"a.yaml": "x", "pic.png": "x", ".gitignore": "", "l": Link("a.yaml")})
    engine = Engine(bench)
    with GitServer(bench.served) as server:
        observed = await engine.look(GitSpec(server.url("repo"), MAIN))
    assert observed.revision == f"main@sha1:{sha}"
    assert (observed.fetched, observed.changed) == (True, True)
    assert observed.message == "stored artifact for commit 'commit 1'"
    assert members(bench, observed.artifact) == ["a.yaml"]
    assert [path for path, _ in observed.artifact.tree.walk()] == ["a.yaml", "l"]
    assert await observed.artifact.tree.read(["a.yaml"]) == {"a.yaml": b"x"}
    assert engine.announced == [observed.revision]


async def test_a_settled_repository_is_only_asked(bench: Bench) -> None:
    """The same revision costs one listing and no fetch, for every reference; a commit not even that."""
    repo = bench.repo()
    sha = repo.commit({"a": "1"}, tag="1.0.0")
    for ref, requests in (
        (MAIN, 1),
        (GitReference(semver="1.x"), 1),
        (GitReference(name="refs/heads/main"), 1),
        (GitReference(commit=sha), 0),
        (GitReference(commit=sha, branch="main"), 0),
    ):
        engine = Engine(bench)
        with GitServer(bench.served) as server:
            spec = GitSpec(server.url("repo"), ref)
            first = await engine.look(spec)
            before = server.count("info/refs")
            second = await engine.look(spec)
            assert server.count("info/refs") - before == requests
        assert (second.fetched, second.changed) == (False, False)
        assert second.revision == first.revision
        assert second.artifact.digest == first.artifact.digest
        assert engine.announced == ([first.revision] if first.fetched else [])


async def test_a_push_is_seen_and_an_empty_change_changes_no_digest(bench: Bench) -> None:
    """A new commit gives a new artifact; with the same files its digest stays, so no NewArtifact event."""
    repo = bench.repo()
    repo.commit({"a": "1"})
    engine = Engine(bench)
    with GitServer(bench.served) as server:
        spec = GitSpec(server.url("repo"), MAIN)
        first = await engine.look(spec)
        sha = await asyncio.to_thread(repo.commit, {"a": "2"}, message="s" * 60 + "\n\nbody")
        second = await engine.look(spec)
        assert (second.revision, second.changed) == (f"main@sha1:{sha}", True)
        assert second.subject == "s" * 50 + "..."
        again = await asyncio.to_thread(repo.commit, {})
        third = await engine.look(spec)
    assert (third.revision, third.fetched, third.changed) == (f"main@sha1:{again}", True, False)
    assert third.artifact.digest == second.artifact.digest != first.artifact.digest


async def test_other_settings_make_another_artifact_of_the_same_commit(bench: Bench) -> None:
    """A change of spec.ignore or sparseCheckout is built at once, without a new commit."""
    bench.repo().commit(
        {
            "a.yaml": "1",
            "b.md": "2",
            "docs/.sourceignore": "*.txt\n",
            "docs/c.txt": "3",
            "docs/d.md": "4",
            "docs2/e": "5",
        }
    )
    engine = Engine(bench)
    with GitServer(bench.served) as server:
        spec = GitSpec(server.url("repo"), MAIN)
        plain = await engine.look(spec)
        assert members(bench, plain.artifact) == [
            "a.yaml",
            "b.md",
            "docs/.sourceignore",
            "docs/d.md",
            "docs2/e",
        ]
        ignoring = await engine.look(replace(spec, ignore="*.md"))
        assert (ignoring.fetched, ignoring.changed) == (True, True)
        assert members(bench, ignoring.artifact) == ["a.yaml", "docs/.sourceignore", "docs2/e"]
        sparse = await engine.look(replace(spec, sparse_checkout=("./docs",)))
        assert members(bench, sparse.artifact) == ["docs/.sourceignore", "docs/d.md", "docs2/e"]
        with pytest.raises(GitError, match=r"sparse checkout dir '\./nowhere' does not exist"):
            await engine.look(replace(spec, sparse_checkout=("./nowhere",)))


async def test_a_restart_fetches_nothing_and_reads_from_the_mirror(bench: Bench) -> None:
    """A new process finds artifact and mirror and only asks for the reference."""
    bench.repo().commit({"a": "1", "run": Executable("x")})
    with GitServer(bench.served) as server:
        spec = GitSpec(server.url("repo"), MAIN)
        before = await Engine(bench).look(spec)
        asked = len(server.requests)
        after = await Engine(bench).look(spec)
        assert not after.fetched
        # A listing is two requests: the capabilities, then the references.
        assert len(server.requests) - asked == 2
    assert after.artifact.digest == before.artifact.digest
    assert after.artifact.tree.digest() == before.artifact.tree.digest()
    (bench.folder / "store/gitrepository/ns/repo" / f"{before.revision[-40:]}.tar.gz").unlink()
    assert await after.artifact.tree.read(["a"]) == {"a": b"1"}


@pytest.mark.parametrize("lost", ["mirrors", "store", "both"])
async def test_deleted_caches_are_built_again(bench: Bench, lost: str) -> None:
    """Mirrors, store or both can be deleted at any time; the artifact comes back the same."""
    bench.repo().commit({"a": "1"})
    engine = Engine(bench)
    with GitServer(bench.served) as server:
        spec = GitSpec(server.url("repo"), MAIN)
        before = await engine.look(spec)
        for name in ("mirrors", "store"):
            if lost in (name, "both"):
                await asyncio.to_thread(shutil.rmtree, bench.folder / name)
        after = await engine.look(spec)
        assert after.artifact.digest == before.artifact.digest
        assert await after.artifact.tree.read(["a"]) == {"a": b"1"}
        assert members(bench, after.artifact) == ["a"]


@pytest.mark.parametrize("kind", ["tree", "blob"])
async def test_a_mirror_that_lost_objects_heals_at_the_next_try(bench: Bench, kind: str) -> None:
    """When trees or blobs are gone from a mirror one try fails and the next one succeeds."""
    repo = bench.repo()
    repo.commit({"a": "1"})
    engine = Engine(bench)
    with GitServer(bench.served) as server:
        spec = GitSpec(server.url("repo"), MAIN)
        await engine.look(spec)
        await asyncio.to_thread(_lose, bench, kind)
        changed = replace(spec, ignore="x")
        engine = Engine(bench)
        with pytest.raises(GitwrightError):
            await engine.look(changed)
        assert members(bench, (await engine.look(changed)).artifact) == ["a"]


def _lose(bench: Bench, kind: str) -> None:
    (mirror,) = (bench.folder / "mirrors").iterdir()
    for path in (mirror / "objects").glob("??/*"):
        found = git("cat-file", "-t", path.parent.name + path.name, cwd=mirror)
        if found.decode().strip() == kind:
            path.unlink()


async def test_a_failure_keeps_the_artifact(bench: Bench) -> None:
    """When the remote fails, the error is Flux's and the artifact stays."""
    repo = bench.repo()
    repo.commit({"a": "1"})
    engine = Engine(bench)
    with GitServer(bench.served) as server:
        spec = GitSpec(server.url("repo"), MAIN)
        observed = await engine.look(spec)
        with pytest.raises(
            GitError, match=r"unable to list remote for '.*absent\.git': repository not found: "
        ):
            await engine.look(replace(spec, url=server.url("absent")))
    assert await engine.store.open("GitRepository", "ns", "repo") is observed.artifact


async def test_two_objects_share_a_mirror(bench: Bench) -> None:
    """The second object with the same URL and credentials fetches nothing."""
    bench.repo().commit({"a": "1"})
    engine = Engine(bench)
    with GitServer(bench.served) as server:
        spec = GitSpec(server.url("repo"), MAIN)
        await engine.look(spec)
        before = server.count("git-upload-pack")
        options = {"mirrors": engine.mirrors, "store": engine.store, "namespace": "ns", "current": None}
        second = await observe(spec, name="other", **options)  # type: ignore[arg-type]
        assert second.fetched
        assert server.count("git-upload-pack") - before == 2


async def test_a_field_that_cannot_be_honoured_stalls(bench: Bench) -> None:
    """Content that should have been verified is never taken unverified (S35)."""
    with pytest.raises(Stalled, match=r"spec\.verify"):
        await Engine(bench).look(GitSpec("https://example.org/x", unsupported=("spec.verify",)))


def test_credentials_of_a_secret() -> None:
    """Each kind of Secret gives its access, with Flux's fallbacks."""
    url = "https://git.example.org/x.git"
    assert credentials(url, None).authorization == ""
    basic = credentials(url, {"username": b"u", "password": b"p", "caFile": b"old", "tls.crt": b"c"})
    assert (basic.username, basic.password, basic.ca) == ("u", "p", b"old")
    assert (basic.client_cert, basic.client_key) == (b"", b"")
    bearer = credentials(url, {"bearerToken": b"t", "username": b"u", "password": b"p", "ca.crt": b"new"})
    assert (bearer.authorization, bearer.username, bearer.ca) == ("Bearer t", "", b"new")
    pair = credentials(url, {"tls.crt": b"c", "tls.key": b"k"})
    assert (pair.client_cert, pair.client_key) == (b"c", b"k")
    inside = credentials("https://u:p%40@git.example.org/x.git", {})
    assert (inside.username, inside.password) == ("u", "p@")
    proxied = credentials(
        url, None, {"address": b"http://proxy:3128", "username": b"u", "password": b"s"}, proxy_name="ns/p"
    )
    assert (proxied.proxy, proxied.proxy_username, proxied.proxy_password) == ("http://proxy:3128", "u", "s")


@pytest.mark.parametrize(
    ("url", "data", "proxy", "message"),
    [
        (
            "https://h/x",
            {"password": b"p"},
            None,
            "failed to configure authentication options: invalid 'https' auth option: "
            "'password' requires 'username' to be set",
        ),
        ("ssh://h/x", None, None, "invalid 'ssh' auth option: 'identity' is required"),
        ("ssh://h/x", {"identity": b"k"}, None, "invalid 'ssh' auth option: 'known_hosts' is required"),
        (
            "https://h/x",
            None,
            {},
            "failed to configure proxy options: secret 'ns/p': key 'address' not found",
        ),
        ("https://h/x", None, {"address": b""}, "secret 'ns/p': proxy address is empty"),
        (
            "https://h/x",
            None,
            {"address": b"ftp://u:geheim@h"},
            "proxy URL must use one of the supported schemes (http, https, socks5), got 'ftp'",
        ),
        ("https://h/x", None, {"address": b"http://" + b"h" * 2050}, "exceeds maximum length of 2048"),
        (
            "https://h/x",
            {"githubAppID": b"1"},
            None,
            "secretRef 'ns/s' has github app data but provider is not set to github",
        ),
        ("https://u@h/x", {"bearerToken": b"t"}, None, "basic auth and bearer token cannot be set"),
    ],
)
def test_incomplete_secrets_are_worded_as_flux_does(
    url: str, data: dict[str, bytes] | None, proxy: dict[str, bytes] | None, message: str
) -> None:
    """A key that is missing gives Flux's message and no value."""
    with pytest.raises(AccessInvalid) as caught:
        credentials(url, data, proxy, secret_name="ns/s", proxy_name="ns/p")
    assert message in caught.value.message
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path, kind: str) -> None:
    """A key with a passphrase is recognised before anything is asked."""
    locked = make_key(tmp_path / "locked", passphrase="geheim", kind=kind)
    free = make_key(tmp_path / "free", kind=kind)
    with pytest.raises(AccessInvalid, match="SSH identity key is encrypted but no 'password' field"):
        credentials("ssh://h/x", {"identity": locked, "known_hosts": b"h"}, secret_name="ns/s")
    for data in (
        {"identity": locked, "known_hosts": b"h", "password": b"geheim"},
        {"identity": free, "known_hosts": b"h"},
    ):
        assert credentials("ssh://git@h/x", data).identity


async def test_errors_of_a_source_are_of_the_one_tree(bench: Bench) -> None:
    """Whatever a URL or Secret holds, the error is one that conclude understands."""
    for url in ("", "x", "https://[", "http://h:99999/x", "ssh://"):
        with pytest.raises(GitwrightError):
            await Engine(bench).look(GitSpec(url))
