"""References, revisions, and what happens when they are not there: real git, real smart HTTP."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from gitwright.transport.git import BlobGone, EmptyRepository, GitError, GitReference, MirrorLimits, Mirrors
from tests.sandbox.git_fixtures import ANONYMOUS, MAIN, Bench, bench, resolve
from tests.servers.git import Executable, Gitlink, GitServer, Link

__all__ = ["bench"]

NO_COMMIT = "f" * 40
ABSENT = "unable to clone '{url}': couldn't find remote ref "
BEFORE = "failed to checkout and determine revision: "


async def test_revisions_are_written_as_flux_writes_them(bench: Bench) -> None:
    """Branch, tag, semver, name, commit, and commit with branch each give Flux's form of revision."""
    repo = bench.repo()
    one = repo.commit({"a": "1"}, tag="1.0.0")
    two = repo.commit({"a": "2"}, tag="1.1.0", annotated=True)
    three = repo.commit({"a": "3"}, tag="2.0.0-rc.1")
    feature = repo.commit({"b": "4"}, branch="feature/x")
    repo.set_ref("refs/pull/7/head", one)
    wanted = {
        MAIN: f"main@sha1:{three}",
        GitReference(branch="feature/x"): f"feature/x@sha1:{feature}",
        GitReference(tag="1.0.0"): f"1.0.0@sha1:{one}",
        GitReference(tag="1.1.0"): f"1.1.0@sha1:{two}",
        GitReference(semver="1.x", branch="main"): f"1.1.0@sha1:{two}",
        GitReference(tag="1.0.0", semver="1.x"): f"1.0.0@sha1:{one}",
        GitReference(name="refs/heads/main", tag="1.0.0"): f"refs/heads/main@sha1:{three}",
        GitReference(name="refs/tags/1.1.0"): f"refs/tags/1.1.0@sha1:{two}",
        GitReference(name="refs/pull/7/head"): f"refs/pull/7/head@sha1:{one}",
        GitReference(commit=one): f"sha1:{one}",
        GitReference(commit=one, branch="main", name=""): f"main@sha1:{one}",
    }
    mirrors = bench.mirrors()
    with GitServer(bench.served) as server:
        for ref, revision in wanted.items():
            url = server.url("repo")
            resolved = await resolve(mirrors, url, ref=ref)
            assert resolved.revision == revision
            commit = await mirrors.fetch(url, ANONYMOUS, ref, resolved, 20)
            assert commit.revision == revision
            assert revision.endswith(commit.sha)
            assert commit.time == 1767225600
    await mirrors.close()


async def test_the_default_branch_is_master(bench: Bench) -> None:
    """Without any reference Flux takes master."""
    sha = bench.repo().commit({"a": "1"}, branch="master")
    with GitServer(bench.served) as server:
        resolved = await resolve(bench.mirrors(), server.url("repo"), ref=GitReference())
    assert resolved.revision == f"master@sha1:{sha}"


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        (
            GitReference(branch="nowhere"),
            "unable to clone '{url}': couldn't find remote ref \"refs/heads/nowhere\"",
        ),
        (GitReference(branch="ma"), "unable to clone '{url}': couldn't find remote ref \"refs/heads/ma\""),
        (GitReference(tag="9"), "unable to clone '{url}': couldn't find remote ref \"refs/tags/9\""),
        (GitReference(semver="9.x"), "no match found for semver: 9.x"),
        (GitReference(semver="what"), 'semver parse error: improper constraint: "what"'),
        (GitReference(name="refs/x/y"), "unable to resolve ref 'refs/x/y' to a specific commit"),
        (
            GitReference(name="refs/heads/main/"),
            "ref refs/heads/main/ is invalid; Git refs cannot begin or end with a slash '/'",
        ),
        (
            GitReference(commit="f" * 40),
            f"unable to resolve commit object for '{'f' * 40}': object not found",
        ),
        (GitReference(commit="--upload-pack=x"), "unable to resolve commit object for '--upload-pack=x'"),
        (
            GitReference(commit=NO_COMMIT, branch="main"),
            f"unable to resolve commit object for '{NO_COMMIT}': object not found",
        ),
    ],
)
async def test_an_absent_reference_is_worded_as_flux_does(
    bench: Bench, ref: GitReference, message: str
) -> None:
    """What is not in the repository gives Flux's message, also when an artifact exists already."""
    bench.repo().commit({"a": "1"}, tag="1.0.0")
    mirrors = bench.mirrors()
    with GitServer(bench.served) as server:
        url = server.url("repo")
        for known in (False, True):
            with pytest.raises(GitError) as caught:
                await _bring(mirrors, url, ref, known)
            assert caught.value.message.startswith(BEFORE + message.format(url=url))
            assert caught.value.reason == "GitOperationFailed"
    await mirrors.close()


async def _bring(mirrors: Mirrors, url: str, ref: GitReference, known: bool) -> None:
    resolved = await mirrors.resolve(url, ANONYMOUS, ref, 20, known=known)
    await mirrors.fetch(url, ANONYMOUS, ref, resolved, 20)


async def test_an_absent_repository_is_worded_as_flux_does(bench: Bench) -> None:
    """The message says which operation of Flux's met the absence: the clone, or the listing before it."""
    with GitServer(bench.served) as server:
        url = server.url("absent")
        for known, words in ((False, "unable to clone"), (True, "unable to list remote for")):
            with pytest.raises(GitError) as caught:
                await bench.mirrors().resolve(url, ANONYMOUS, MAIN, 20, known=known)
            assert caught.value.message == f"{BEFORE}{words} '{url}': repository not found: "
            assert caught.value.hint


async def test_an_empty_repository_has_its_own_reason(bench: Bench) -> None:
    """No commit at all is EmptyGitRepository for a branch."""
    bench.repo()
    with GitServer(bench.served) as server:
        with pytest.raises(EmptyRepository) as caught:
            await resolve(bench.mirrors(), server.url("repo"))
        assert (caught.value.reason, caught.value.message) == (
            "EmptyGitRepository",
            "git repository is empty",
        )
        with pytest.raises(GitError, match="unable to clone: remote repository is empty: git repository: "):
            await resolve(bench.mirrors(), server.url("repo"), ref=GitReference(tag="x"))


async def test_files_of_a_commit(bench: Bench) -> None:
    """Modes, links and sizes are read without a checkout; submodules are left out."""
    repo = bench.repo()
    sha = repo.commit(
        {
            "a.yaml": "text",
            "bin/run": Executable("#!"),
            "link": Link("../../etc/passwd"),
            "with space/ü\n.yaml": "odd",
            "module": Gitlink("1" * 40),
        }
    )
    mirrors = bench.mirrors()
    with GitServer(bench.served) as server:
        url = server.url("repo")
        await mirrors.fetch(url, ANONYMOUS, MAIN, await resolve(mirrors, url), 20)
        files = await mirrors.files(url, ANONYMOUS, sha)
    assert {path: (entry.size, entry.executable, entry.link) for path, entry in files.items()} == {
        "a.yaml": (4, False, None),
        "bin/run": (2, True, None),
        "link": (16, False, "../../etc/passwd"),
        "with space/ü\n.yaml": (3, False, None),
    }
    found = await mirrors.blobs(url, ANONYMOUS).read([files["a.yaml"].id, files["bin/run"].id])
    assert list(found.values()) == [b"text", b"#!"]
    with pytest.raises(BlobGone):
        await mirrors.blobs(url, ANONYMOUS).read(["0" * 40])


async def test_a_fetch_takes_no_history_and_no_second_request(bench: Bench) -> None:
    """Only the commit comes, and a commit that the mirror has is not asked for again, nor after a restart."""
    repo = bench.repo()
    for number in range(5):
        repo.commit({"a": str(number)})
    mirrors = bench.mirrors()
    with GitServer(bench.served) as server:
        url = server.url("repo")
        resolved = await resolve(mirrors, url)
        await mirrors.fetch(url, ANONYMOUS, MAIN, resolved, 20)
        before = len(server.requests)
        await mirrors.fetch(url, ANONYMOUS, MAIN, resolved, 20)
        await bench.mirrors().fetch(url, ANONYMOUS, MAIN, resolved, 20)
        assert len(server.requests) == before
    assert not await mirrors.has(url, ANONYMOUS, repo.commits[0])
    assert await mirrors.has(url, ANONYMOUS, repo.commits[-1])


async def test_questions_at_one_time_are_asked_once(bench: Bench) -> None:
    """Many objects with one URL cost one listing, whatever branch they want."""
    repo = bench.repo()
    repo.commit({"a": "1"})
    repo.commit({"a": "2"}, branch="dev")
    mirrors = bench.mirrors()
    with GitServer(bench.served) as server:
        url = server.url("repo")
        refs = [MAIN, GitReference(branch="dev")] * 20
        found = await asyncio.gather(*(resolve(mirrors, url, ref=ref) for ref in refs))
        assert len({resolved.revision for resolved in found}) == 2
        assert server.count("info/refs") == 1


async def test_an_answer_is_never_older_than_its_question(bench: Bench) -> None:
    """Who asks while a listing runs gets the next one, so a push just before asking is seen."""
    repo = bench.repo()
    repo.commit({"a": "1"})
    mirrors = bench.mirrors()
    with GitServer(bench.served) as server:
        url = server.url("repo")
        server.delay = 0.2
        first = asyncio.create_task(resolve(mirrors, url))
        await asyncio.to_thread(server.wait_for, 1)
        # The second and third ask while the first's listing runs.
        await asyncio.sleep(0.05)
        second = [asyncio.create_task(resolve(mirrors, url)) for _ in range(3)]
        await asyncio.sleep(0)
        new = await asyncio.to_thread(repo.commit, {"a": "2"})
        await first
        assert {(await task).commit for task in second} == {new}
        assert server.count("info/refs") == 2


async def test_an_old_server_gives_commits_by_name_and_history(bench: Bench) -> None:
    """Without protocol v2 a moved branch gives its new commit, and an old commit is found in the history."""
    repo = bench.repo()
    old = repo.commit({"a": "1"})
    tip = repo.commit({"a": "2"})
    repo.forbid_ids()
    mirrors = bench.mirrors()
    with GitServer(bench.served) as server:
        server.protocol_v2 = False
        url = server.url("repo")
        resolved = await resolve(mirrors, url)
        assert resolved.commit == tip
        new = await asyncio.to_thread(repo.commit, {"a": "3"})
        moved = await mirrors.fetch(url, ANONYMOUS, MAIN, resolved, 20)
        assert (moved.sha, moved.revision) == (new, f"main@sha1:{new}")
        for ref in (GitReference(commit=old), GitReference(commit=old, branch="main")):
            wanted = await resolve(bench.mirrors(), url, ref=ref)
            found = await bench.mirrors().fetch(url, ANONYMOUS, ref, wanted, 20)
            assert (found.sha, found.subject) == (old, "commit 1")
        ref = GitReference(commit="f" * 40)
        with pytest.raises(GitError, match="unable to resolve commit object for 'ffff"):
            await mirrors.fetch(url, ANONYMOUS, ref, await resolve(mirrors, url, ref=ref), 20)


async def test_a_mirror_stays_small(bench: Bench) -> None:
    """After many commits a mirror keeps the newest few and drops the others' files."""
    repo = bench.repo()
    mirrors = bench.mirrors(limits=MirrorLimits(keep=2))
    with GitServer(bench.served) as server:
        url = server.url("repo")
        for number in range(9):
            repo.commit({"a": str(number)}, when=1767225600 + number)
            await mirrors.fetch(url, ANONYMOUS, MAIN, await resolve(mirrors, url), 20)
    kept = [sha for sha in repo.commits if await mirrors.has(url, ANONYMOUS, sha)]
    assert repo.commits[-1] in kept
    assert len(kept) <= 4
    files = await mirrors.files(url, ANONYMOUS, repo.commits[-1])
    assert await mirrors.blobs(url, ANONYMOUS).read([files["a"].id]) == {files["a"].id: b"8"}


@pytest.mark.parametrize("harm", ["gone", "head", "objects", "empty", "locks"])
async def test_a_damaged_mirror_is_made_anew(bench: Bench, harm: str) -> None:
    """A mirror is a cache: whatever happens to it, the next fetch works."""
    repo = bench.repo()
    repo.commit({"a": "1"})
    mirrors = bench.mirrors()
    with GitServer(bench.served) as server:
        url = server.url("repo")
        await mirrors.fetch(url, ANONYMOUS, MAIN, await resolve(mirrors, url), 20)
        await asyncio.to_thread(_harm, bench, harm)
        sha = await asyncio.to_thread(repo.commit, {"a": "2"})
        commit = await mirrors.fetch(url, ANONYMOUS, MAIN, await resolve(mirrors, url), 20)
        assert commit.sha == sha
        assert set(await mirrors.files(url, ANONYMOUS, sha)) == {"a"}


def _harm(bench: Bench, harm: str) -> None:
    (mirror,) = (bench.folder / "mirrors").iterdir()
    if harm == "gone":
        shutil.rmtree(mirror)
    elif harm == "head":
        (mirror / "HEAD").write_text("garbage")
    elif harm == "objects":
        shutil.rmtree(mirror / "objects")
    elif harm == "empty":
        for path in (mirror / "objects").glob("??/*"):
            path.chmod(0o600)
            path.write_bytes(b"")
    else:
        (mirror / "shallow.lock").write_text("")
        (mirror / "packed-refs.lock").write_text("")


async def test_limits_of_a_repository_hold(bench: Bench) -> None:
    """A commit with too many files or a blob that is too large is refused (S10)."""
    bench.repo().commit({"a": "1", "b": "12345", "c": "3"})
    with GitServer(bench.served) as server:
        url = server.url("repo")
        for limits, fine in ((MirrorLimits(entries=3, blob=5), True), (MirrorLimits(entries=2), False)):
            mirrors = bench.mirrors(limits=limits)
            commit = await mirrors.fetch(url, ANONYMOUS, MAIN, await resolve(mirrors, url), 20)
            if not fine:
                with pytest.raises(GitError, match="limit of 2"):
                    await mirrors.files(url, ANONYMOUS, commit.sha)
                continue
            files = await mirrors.files(url, ANONYMOUS, commit.sha)
            assert await mirrors.blobs(url, ANONYMOUS).read([files["b"].id])
        mirrors = bench.mirrors(limits=MirrorLimits(blob=4))
        with pytest.raises(GitError, match="limit of 4"):
            await mirrors.blobs(url, ANONYMOUS).read([files["b"].id])


async def test_mirrors_that_nobody_uses_are_collected(bench: Bench) -> None:
    """Only mirrors that this process uses stay; a forgotten one goes at once."""
    for name in ("one", "two"):
        bench.repo(name).commit({"a": name})
    with GitServer(bench.served) as server:
        before = bench.mirrors()
        for name in ("one", "two"):
            url = server.url(name)
            await before.fetch(url, ANONYMOUS, MAIN, await resolve(before, url), 20)
        mirrors = bench.mirrors()
        await resolve(mirrors, server.url("one"))
        assert await mirrors.collect(3600) == 1
        assert await mirrors.collect(3600) == 0
        await mirrors.forget(server.url("one"), ANONYMOUS)
    assert _listed(bench) == []


def _listed(bench: Bench) -> list[str]:
    return [path.name for path in (bench.folder / "mirrors").iterdir()]
