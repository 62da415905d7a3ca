"""One bare mirror of one remote: list its references, fetch commits, read trees and blobs.

Role in the flow: below `git.Mirrors`, which shares mirrors between sources. A mirror
holds shallow commits under `refs/gitwright/commits/<id>` and nothing else; it is a
cache and may be deleted at any moment. Must not know references as users write them.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from gitwright.core.errors import Transient
from gitwright.transport import git_cli
from gitwright.transport.access import GitAccess, Remote
from gitwright.transport.egress import Egress, EgressRefused
from gitwright.transport.git_cli import GitError, Output, Programs
from gitwright.transport.git_errors import Failure, understand

_T = TypeVar("_T")
_REFS = "refs/gitwright/commits/"
_INCOMING = "refs/gitwright/incoming"
_ASKED = "/info/refs?service=git-upload-pack"
_MOST_REDIRECTS = 5
_LINK_BYTES = 4096
_REMEMBERED = 4
_EVERYTHING = "2147483647"
TOO_SLOW = Failure(
    "network", "context deadline exceeded", hint="raise spec.timeout if the server is just slow"
)
_DAMAGE = re.compile(
    r"not a git repository: '|loose object .* is corrupt|object file .* is empty|unable to read tree"
    r"|bad object refs/|packfile .* (cannot be accessed|is truncated|index unavailable)|unresolved deltas"
    r"|shallow file has changed|index-pack failed.*missing"
)


class RemoteFailed(Exception):
    """Git could not do it at the remote; holds what its words mean."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.words)
        self.failure = failure


class BlobGone(Transient):
    """A blob is no longer in the mirror."""

    reason = "GitOperationFailed"


@dataclass(frozen=True, slots=True)
class MirrorLimits:
    """What one remote may cost (S10).

    Args:
        disk: bytes on disk that one mirror may have.
        entries: files that one commit may have.
        blob: bytes of one file.
        listing: bytes of a list of references.
        keep: commits kept in a mirror when it is cleaned up.
    """

    disk: int = 4 << 30
    entries: int = 200_000
    blob: int = 100 << 20
    listing: int = 64 << 20
    keep: int = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a commit.

    Args:
        id: blob id, hexadecimal.
        size: bytes.
        executable: its mode is 0755.
        link: the target if it is a symbolic link, else None.
    """

    id: str
    size: int
    executable: bool = False
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """A commit's own facts: its id, its tree's id, the first line of its message, committer's time."""

    sha: str
    tree: str
    subject: str
    time: int


@dataclass(slots=True, eq=False)
class _Turn(Generic[_T]):
    """One call, and how many callers wait for it."""

    task: asyncio.Task[_T]
    waiting: int = 0


class Coalesced(Generic[_T]):
    """Lets callers that come before a call has begun share it.

    A caller never gets the answer of a call that began before it asked: what was
    pushed before asking is seen. When the last caller has gone the call is ended.
    """

    def __init__(self) -> None:
        self._running: _Turn[_T] | None = None
        self._queued: _Turn[_T] | None = None

    async def get(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Give the result of the next call to begin, which is this one or an earlier caller's."""
        turn = self._queued
        if turn is None:
            turn = self._queued = _Turn(asyncio.create_task(self._take(call)))
            # When every caller has gone, nobody else would look at its error.
            turn.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        turn.waiting += 1
        try:
            return await asyncio.shield(turn.task)
        except asyncio.CancelledError:
            if turn.waiting == 1:
                await self._end(turn)
            raise
        finally:
            turn.waiting -= 1

    async def _take(self, call: Callable[[], Awaitable[_T]]) -> _T:
        if self._running is not None:
            await asyncio.wait({self._running.task})
        self._running, self._queued = self._queued, None
        return await call()

    async def _end(self, turn: _Turn[_T] | None) -> None:
        if turn is None or turn.task.done():
            return
        if self._queued is turn:
            # Nobody may join what is being ended.
            self._queued = None
        turn.task.cancel()
        await asyncio.wait({turn.task})

    async def close(self) -> None:
        """End what runs and wait for it."""
        for turn in (self._queued, self._running):
            await self._end(turn)


class Mirror:
    """One bare repository on our disk for one URL and one set of credentials.

    Args:
        path: its folder; made when needed.
        remote: the URL.
        access: the credentials.
        programs: how to run git.
        egress: which addresses are allowed.
        private: folder for private files.
        limits: what it may cost.
        gate: how many git processes may speak with this remote's server at once.
        local: how many may work on the disk at once.
    """

    def __init__(
        self,
        path: Path,
        remote: Remote,
        access: GitAccess,
        *,
        programs: Programs,
        egress: Egress,
        private: Path,
        limits: MirrorLimits,
        gate: asyncio.Semaphore,
        local: asyncio.Semaphore,
    ) -> None:
        self.path = path
        self.used = 0.0  # when it was last asked for, by the loop's clock
        self._remote = remote
        self._access = access
        self._programs = programs
        self._egress = egress
        self._private = private
        self._limits = limits
        self._gate = gate
        self._local_gate = local
        self._lock = asyncio.Lock()
        self._listings: dict[str, Coalesced[dict[str, str]]] = {}
        self._entries: dict[str, Mapping[str, Entry]] = {}

    async def listing(self, prefix: str, timeout: float) -> Mapping[str, str]:
        """Give the remote's references and their ids; tags also peeled, as `name^{}`.

        Args:
            prefix: `refs/heads/`, `refs/tags/`, or empty for all.
            timeout: seconds.

        Raises:
            RemoteFailed: the remote cannot be listed.
        """
        shared = self._listings.setdefault(prefix, Coalesced())
        try:
            async with asyncio.timeout(timeout):
                return await shared.get(lambda: self._list(prefix, timeout))
        except TimeoutError:
            raise RemoteFailed(TOO_SLOW) from None

    async def _list(self, prefix: str, timeout: float) -> dict[str, str]:
        # The flags let protocol v2 send only these; a pattern would only filter on our side.
        flags = {"refs/heads/": ["--heads"], "refs/tags/": ["--tags"]}.get(prefix, [])
        out = await self._ask(lambda url: ["ls-remote", "--quiet", *flags, "--", url], timeout)
        return await asyncio.to_thread(_parse_listing, out.stdout)

    async def commit(self, sha: str) -> Raw | None:
        """Give a commit's facts if the mirror has it, else None."""
        out = await self._local("cat-file", "commit", _REFS + sha)
        return _parse_commit(sha, out.stdout) if out.code == 0 else None

    async def fetch(self, sha: str, timeout: float) -> None:
        """Fetch one commit by its id, without its history.

        Raises:
            RemoteFailed: kind `refused-id` when the server gives no commits by id.
        """
        await self._fetch(["--depth=1"], [f"+{sha}:{_REFS}{sha}"], timeout)

    async def fetch_ref(self, ref: str, timeout: float) -> str:
        """Fetch what a reference points to now, without its history; give the commit's id."""
        async with self._lock:
            await self._fetch_locked(["--depth=1"], [f"+{ref}:{_INCOMING}"], timeout)
            return await self._adopt(f"{_INCOMING}^{{commit}}")

    async def fetch_history(self, refs: Sequence[str], sha: str, timeout: float) -> bool:
        """Fetch references with all their history; tell whether it has a commit."""
        specs = [
            f"+{ref}:{_INCOMING}/{number}" + ("/*" if ref.endswith("*") else "")
            for number, ref in enumerate(refs)
        ]
        async with self._lock:
            await self._fetch_locked([f"--depth={_EVERYTHING}"], specs, timeout)
            try:
                return await self._adopt(f"{sha}^{{commit}}") == sha
            except RemoteFailed:
                return False

    async def entries(self, sha: str) -> Mapping[str, Entry]:
        """Give every file of a commit that the mirror has; submodules are left out.

        Raises:
            GitError: the commit is gone, or holds more than a limit.
        """
        if sha not in self._entries:
            out = await self._local("ls-tree", "-r", "-z", "-l", "--full-tree", _REFS + sha)
            try:
                if out.code != 0:
                    raise BlobGone(_line(out.stderr))
                found, links = await asyncio.to_thread(_parse_tree, out.stdout, self._limits)
                ids = tuple(dict.fromkeys(found[path].id for path in links))
                targets = await self.blobs(ids) if ids else {}
            except BlobGone as error:
                # A mirror that cannot be read is of no use; the next try fetches again.
                await self.delete()
                text = f"unable to read the tree of commit '{sha}'"
                raise GitError(text, detail=error.message) from error
            for path in links:
                target = targets[found[path].id].decode(errors="surrogateescape")
                found[path] = replace(found[path], link=target)
            while len(self._entries) >= _REMEMBERED:
                del self._entries[next(iter(self._entries))]
            self._entries[sha] = found
        return self._entries[sha]

    async def blobs(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Give the bytes of blobs by id.

        Raises:
            BlobGone: one is not in the mirror.
            GitError: one is larger than the limit.
        """
        question = "".join(f"{blob}\n" for blob in ids).encode()
        out = await self._local("cat-file", "--batch", "--buffer", stdin=question)
        if out.code != 0:
            raise BlobGone("the mirror cannot be read", detail=_line(out.stderr))
        return await asyncio.to_thread(_parse_blobs, out.stdout, ids, self._limits.blob)

    async def close(self) -> None:
        """Stop what runs."""
        for shared in self._listings.values():
            await shared.close()

    async def delete(self) -> None:
        """Remove the mirror from the disk."""
        async with self._lock:
            self._entries.clear()
            await asyncio.to_thread(shutil.rmtree, self.path, ignore_errors=True)

    async def _fetch(self, options: Sequence[str], specs: Sequence[str], timeout: float) -> None:
        async with self._lock:
            await self._fetch_locked(options, specs, timeout)

    async def _fetch_locked(self, options: Sequence[str], specs: Sequence[str], timeout: float) -> None:
        flags = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc")

        def arguments(url: str) -> list[str]:
            return [f"--git-dir={self.path}", "fetch", *flags, *options, "--", url, *specs]

        await self._prepare()
        try:
            await self._ask(arguments, timeout, watch=self._fits)
        except RemoteFailed as error:
            if not _DAMAGE.search(f"{error.failure.words}\n{error.failure.detail}"):
                raise
            # A mirror is a cache: a damaged one is made anew.
            await asyncio.to_thread(shutil.rmtree, self.path, ignore_errors=True)
            await self._prepare()
            await self._ask(arguments, timeout, watch=self._fits)
        await self._tidy(specs)

    async def _adopt(self, name: str) -> str:
        """Give a commit in the mirror its lasting name, and drop the incoming ones."""
        out = await self._local("rev-parse", "--verify", "--quiet", name)
        sha = out.stdout.decode().strip()
        listed = await self._local("for-each-ref", "--format=delete %(refname)", _INCOMING)
        commands = listed.stdout
        if out.code == 0:
            commands += f"update {_REFS}{sha} {sha}\n".encode()
        await self._local("update-ref", "--stdin", stdin=commands)
        if out.code != 0:
            raise RemoteFailed(Failure("refused-id", "object not found"))
        return sha

    async def _prepare(self) -> None:
        if await asyncio.to_thread((self.path / "HEAD").is_file):
            await asyncio.to_thread(_remove_locks, self.path)
            return
        await asyncio.to_thread(shutil.rmtree, self.path, ignore_errors=True)
        await asyncio.to_thread(self.path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        out = await self._plain("init", "--quiet", "--bare", "--template=", str(self.path))
        if out.code != 0:
            raise GitError("unable to create the mirror", detail=_line(out.stderr))

    async def _tidy(self, specs: Sequence[str]) -> None:
        """After many fetches drop old commits, so that a mirror stays small."""
        count = await asyncio.to_thread(_count, self.path / _REFS)
        if count <= 4 * self._limits.keep:
            return
        out = await self._local("for-each-ref", "--sort=-creatordate", "--format=%(refname)", _REFS)
        fresh = {spec.rpartition(":")[2] for spec in specs}
        old = [ref for ref in out.stdout.decode().split() if ref not in fresh][self._limits.keep :]
        await self._local("update-ref", "--stdin", stdin="".join(f"delete {ref}\n" for ref in old).encode())
        await self._local("gc", "--quiet", "--prune=now", timeout=300)

    def _fits(self) -> bool:
        total = 0
        try:
            with os.scandir(self.path / "objects" / "pack") as files:
                total = sum(file.stat(follow_symlinks=False).st_size for file in files)
        except OSError:
            # A file that vanished in between is no longer large.
            return True
        return total <= self._limits.disk

    async def _ask(
        self, arguments: Callable[[str], list[str]], timeout: float, watch: Callable[[], bool] | None = None
    ) -> Output:
        """Run git against the remote, following checked redirects.

        Raises:
            RemoteFailed: it failed.
        """
        remote, access = self._remote, self._access
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        try:
            for _ in range(_MOST_REDIRECTS):
                async with (
                    self._gate,
                    git_cli.session(
                        remote,
                        access,
                        programs=self._programs,
                        egress=self._egress,
                        private=self._private,
                    ) as session,
                ):
                    left = max(0.001, deadline - loop.time())
                    command = arguments(remote.url)
                    out = await session.run(*command, timeout=left, limit=self._limits.listing, watch=watch)
                    if out.code == 0:
                        return out
                    target = await session.redirect() if "returned error: 30" in out.stderr else ""
                if not target:
                    raise RemoteFailed(_cleaned(understand(out.stderr, remote.url), access))
                remote, access = _follow(remote, access, target)
        except TimeoutError:
            raise RemoteFailed(TOO_SLOW) from None
        except socket.gaierror as error:
            words = f"dial tcp: lookup {remote.host}: no such host"
            hint = "check the host in spec.url and the cluster's DNS"
            raise RemoteFailed(Failure("network", words, str(error), hint)) from None
        except EgressRefused as error:
            hint = "these addresses are never allowed for sources, or need a setting of the engine"
            raise RemoteFailed(Failure("network", error.message, "", hint)) from None
        raise RemoteFailed(Failure("network", f"stopped after {_MOST_REDIRECTS} redirects"))

    async def _local(self, *arguments: str, stdin: bytes = b"", timeout: float = 60) -> Output:
        return await self._plain(f"--git-dir={self.path}", *arguments, stdin=stdin, timeout=timeout)

    async def _plain(self, *arguments: str, stdin: bytes = b"", timeout: float = 60) -> Output:
        environment = git_cli.base_environment(self._programs, home=self._private)
        limit = self._limits.disk
        command = (self._programs.git, *arguments)
        async with self._local_gate:
            return await git_cli.run(
                command, environment=environment, timeout=timeout, stdin=stdin, limit=limit
            )


def _follow(remote: Remote, access: GitAccess, target: str) -> tuple[Remote, GitAccess]:
    """Say where a redirect leads, and what may be shown there (S9)."""
    joined = urllib.parse.urljoin(remote.url.rstrip("/") + _ASKED, target)
    if not joined.endswith(_ASKED):
        raise RemoteFailed(Failure("other", f"the server redirects to {joined!r}, which is no repository"))
    found = Remote.parse(joined.removesuffix(_ASKED))
    if found.scheme == "ssh" or (remote.scheme == "https" and found.scheme == "http"):
        raise RemoteFailed(Failure("other", f"the server redirects to {found.url!r}, which is less safe"))
    if found.origin != remote.origin:
        access = replace(access, username="", password="", bearer="", client_cert=b"", client_key=b"")
    return found, access


def _cleaned(failure: Failure, access: GitAccess) -> Failure:
    return replace(failure, words=access.clean(failure.words), detail=access.clean(failure.detail))


def _line(stderr: str) -> str:
    return stderr.strip().splitlines()[0][:500] if stderr.strip() else ""


def _remove_locks(path: Path) -> None:
    """Remove locks that a killed git left; only the holder of this mirror's lock comes here."""
    for name in ("shallow.lock", "packed-refs.lock", "config.lock", "gc.pid"):
        (path / name).unlink(missing_ok=True)
    for lock in (path / "refs").rglob("*.lock"):
        lock.unlink(missing_ok=True)
    for leftover in (path / "objects" / "pack").glob("tmp_*"):
        leftover.unlink(missing_ok=True)


def _count(folder: Path) -> int:
    try:
        return len(os.listdir(folder))
    except OSError:
        return 0


def _parse_listing(text: bytes) -> dict[str, str]:
    found = {}
    for line in text.decode(errors="surrogateescape").splitlines():
        sha, tab, ref = line.partition("\t")
        if tab:
            found[ref] = sha
    return found


def _parse_commit(sha: str, raw: bytes) -> Raw:
    head, _, message = raw.partition(b"\n\n")
    tree, time = "", 0
    for line in head.split(b"\n"):
        name, _, value = line.partition(b" ")
        if name == b"tree" and not tree:
            tree = value.decode()
        elif name == b"committer":
            time = int(value.rsplit(b" ", 2)[-2])
    return Raw(sha, tree, message.split(b"\n")[0].decode(errors="replace"), time)


def _parse_tree(text: bytes, limits: MirrorLimits) -> tuple[dict[str, Entry], list[str]]:
    """Read `ls-tree -r -z -l`; give the files, and which of them are links."""
    found: dict[str, Entry] = {}
    links: list[str] = []
    for record in text.split(b"\0"):
        if not record:
            continue
        head, _, name = record.partition(b"\t")
        mode, kind, blob, size = head.split()
        if kind != b"blob":
            continue
        path = name.decode(errors="surrogateescape")
        if not size.isdigit():
            raise BlobGone(f"the blob of {path} is not in the mirror")
        found[path] = Entry(blob.decode(), int(size), mode == b"100755")
        if mode == b"120000":
            if int(size) > _LINK_BYTES:
                raise GitError(f"the symbolic link {path} is longer than {_LINK_BYTES} bytes")
            links.append(path)
        if len(found) > limits.entries:
            raise GitError(f"the commit has more than the limit of {limits.entries} files")
    return found, links


def _parse_blobs(text: bytes, ids: Sequence[str], limit: int) -> dict[str, bytes]:
    """Read the answers of `cat-file --batch`."""
    found: dict[str, bytes] = {}
    position = 0
    for blob in ids:
        end = text.find(b"\n", position)
        parts = text[position:end].split(b" ") if end >= 0 else []
        if len(parts) != 3 or parts[1] != b"blob" or parts[0].decode() != blob:
            raise BlobGone(f"blob {blob} is not in the mirror")
        size = int(parts[2])
        if size > limit:
            raise GitError(f"blob {blob} has {size} bytes, more than the limit of {limit}")
        found[blob] = text[end + 1 : end + 1 + size]
        position = end + 1 + size + 1
    return found
