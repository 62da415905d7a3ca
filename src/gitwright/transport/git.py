"""Git remotes: what a reference points to, commits, trees and blobs.

Role in the flow: the one door to Git for sources. Turns a reference as users write
it into a commit and a revision as Flux writes it. Mirrors are shared: one per URL
and credentials, however many sources use it. Must not know Kubernetes, artifacts
or ignore rules. Source: spec/flux-v2.md 2.1; spec/dependencies.md 4.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gitwright.formats.semver import Constraint, newest
from gitwright.transport.access import GitAccess, Remote, hide_password
from gitwright.transport.egress import Egress
from gitwright.transport.git_cli import GitError, Programs
from gitwright.transport.git_errors import Failure
from gitwright.transport.git_mirror import TOO_SLOW, BlobGone, Entry, Mirror, MirrorLimits, Raw, RemoteFailed

__all__ = [
    "BlobGone",
    "Commit",
    "Egress",
    "EmptyRepository",
    "Entry",
    "GitAccess",
    "GitError",
    "GitReference",
    "MirrorLimits",
    "Mirrors",
    "Programs",
    "Resolved",
]

_SHA1 = re.compile(r"[0-9a-f]{40}")
_HEADS = "refs/heads/"
_TAGS = "refs/tags/"
_PEELED = "^{}"
_PREFIX = "failed to checkout and determine revision: "
DEFAULT_BRANCH = "master"


class EmptyRepository(GitError):
    """The repository has no commit yet."""

    reason = "EmptyGitRepository"


@dataclass(frozen=True, slots=True)
class GitReference:
    """What to take of a repository, as `spec.ref` says.

    The first of commit, name, tag, semver and branch counts. (Flux's reference says that semver
    comes before tag; its code asks for the tag first, and so do we.)

    Args:
        branch: name of a branch; `master` when nothing is given.
        tag: name of a tag.
        semver: a constraint; the highest tag that it allows.
        name: a whole reference such as `refs/pull/4/head`.
        commit: a commit's id; `branch` then says where to look for it.
    """

    branch: str = ""
    tag: str = ""
    semver: str = ""
    name: str = ""
    commit: str = ""

    def revision_of_commit(self) -> str:
        """Give the revision if `commit` alone decides it, else an empty text."""
        return self._revision("", self.commit) if self.commit else ""

    def _revision(self, ref: str, sha: str) -> str:
        """Write a revision as Flux does: whole names for `name`, short ones otherwise."""
        if self.name:
            return f"{self.name}@sha1:{sha}"
        if self.commit:
            return f"{self.branch}@sha1:{sha}" if self.branch else f"sha1:{sha}"
        return f"{ref.split('/', 2)[2]}@sha1:{sha}"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference points to now.

    Args:
        revision: as Flux writes it, such as `main@sha1:...`.
        commit: the commit's id.
        ref: the whole name of the reference at the remote; empty for a commit without branch.
    """

    revision: str
    commit: str
    ref: str


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that the mirror has.

    Args:
        sha: its id.
        tree: its tree's id.
        subject: first line of its message, whole.
        time: committer's time, seconds since 1970.
        revision: as Flux writes it; newer than the resolved one if the reference moved while fetching.
    """

    sha: str
    tree: str
    subject: str
    time: int
    revision: str


class Blobs:
    """Gives blobs of a mirror by id; what artifacts read their trees by."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    async def read(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Give the bytes of blobs by id.

        Raises:
            BlobGone: one is no longer in the mirror.
            GitError: one is larger than the limit.
        """
        return await self._mirror.blobs(ids)


class Mirrors:
    """All mirrors below one folder; what two sources share is fetched once.

    Args:
        root: the folder; made when missing, may be deleted at any time.
        private: folder for credentials while an operation runs; best in memory, ours alone.
        key: secret that names mirrors, so that names tell nothing of credentials; kept over restarts.
        programs: how to run git.
        egress: which addresses users' URLs may lead to.
        limits: what one remote may cost.
        concurrent: git processes that may speak with one server at once, and that may work on the
            disk at once; a server that hangs holds up nobody else's sources (S13).
    """

    def __init__(
        self,
        root: Path,
        *,
        private: Path,
        key: bytes,
        programs: Programs | None = None,
        egress: Egress | None = None,
        limits: MirrorLimits | None = None,
        concurrent: int = 16,
    ) -> None:
        self._root = root
        self._private = private
        self._key = key
        self._programs = programs or Programs()
        self._egress = egress or Egress()
        self._limits = limits or MirrorLimits()
        self._concurrent = concurrent
        self._local = asyncio.Semaphore(concurrent)
        self._gates: dict[tuple[str, str, int], asyncio.Semaphore] = {}
        self._mirrors: dict[str, Mirror] = {}

    async def resolve(
        self, url: str, access: GitAccess, ref: GitReference, timeout: float, *, known: bool = False
    ) -> Resolved:
        """Ask the remote what a reference points to; identical questions at one time are asked once.

        Args:
            url: the remote.
            access: credentials for it.
            ref: what to take.
            timeout: seconds.
            known: an artifact exists already; only decides Flux's wording of an error.

        Raises:
            GitError: with Flux's message.
            EmptyRepository: there is no commit at all.
            Stalled: `URLInvalid`.
        """
        mirror = self._mirror(url, access)
        asked = _Question(mirror, url, access, ref, timeout, listing=known)
        try:
            return await asked.resolve()
        except RemoteFailed as error:
            raise asked.failed(error.failure) from None

    async def fetch(
        self, url: str, access: GitAccess, ref: GitReference, resolved: Resolved, timeout: float
    ) -> Commit:
        """Bring a commit into the mirror, without its history; nothing is asked if it is there.

        Args:
            url: the remote.
            access: credentials for it.
            ref: what was resolved.
            resolved: what it points to.
            timeout: seconds.

        Raises:
            GitError: with Flux's message.
        """
        mirror = self._mirror(url, access)
        asked = _Question(mirror, url, access, ref, timeout, listing=False)
        try:
            # The mirror may be busy with another fetch, which counts.
            async with asyncio.timeout(timeout):
                found = await mirror.commit(resolved.commit)
                if found is None:
                    found = await asked.bring(resolved)
        except TimeoutError:
            raise asked.failed(TOO_SLOW) from None
        except RemoteFailed as error:
            raise asked.failed(error.failure) from None
        revision = resolved.revision
        if found.sha != resolved.commit:
            revision = ref._revision(resolved.ref, found.sha)
        return Commit(found.sha, found.tree, found.subject, found.time, revision)

    async def files(self, url: str, access: GitAccess, commit: str) -> Mapping[str, Entry]:
        """Give every file of a fetched commit by path; submodules are left out.

        Raises:
            GitError: the commit is not in the mirror, or holds more than a limit.
        """
        return await self._mirror(url, access).entries(commit)

    def blobs(self, url: str, access: GitAccess) -> Blobs:
        """Give the reader of a remote's blobs."""
        return Blobs(self._mirror(url, access))

    async def has(self, url: str, access: GitAccess, commit: str) -> bool:
        """Tell whether a commit is in the mirror; asks the disk only."""
        return await self._mirror(url, access).commit(commit) is not None

    async def forget(self, url: str, access: GitAccess) -> None:
        """Delete a mirror that nobody uses any more."""
        mirror = self._mirror(url, access)
        self._mirrors.pop(mirror.path.name, None)
        await mirror.close()
        await mirror.delete()

    async def collect(self, unused: float) -> int:
        """Delete the mirrors that this process has not used for so many seconds; give their number.

        Call it when all sources have been looked at once: what they did not use is nobody's.
        """
        limit = asyncio.get_running_loop().time() - unused
        used = {name for name, mirror in self._mirrors.items() if mirror.used >= limit}
        old = [path for path in await asyncio.to_thread(_folders, self._root) if path.name not in used]
        for path in old:
            found = self._mirrors.pop(path.name, None)
            if found is not None:
                await found.close()
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        return len(old)

    async def close(self) -> None:
        """Stop everything that runs; call it before the loop ends."""
        for mirror in self._mirrors.values():
            await mirror.close()

    def _mirror(self, url: str, access: GitAccess) -> Mirror:
        remote = Remote.parse(url)
        if not access.authorization and (remote.username or remote.password):
            access = replace(access, username=remote.username, password=remote.password)
        name = access.fingerprint(self._key, remote.url)
        if name not in self._mirrors:
            self._mirrors[name] = Mirror(
                self._root / name,
                remote,
                access,
                programs=self._programs,
                egress=self._egress,
                private=self._private,
                limits=self._limits,
                gate=self._gates.setdefault(remote.origin, asyncio.Semaphore(self._concurrent)),
                local=self._local,
            )
        found = self._mirrors[name]
        found.used = asyncio.get_running_loop().time()
        return found


@dataclass(slots=True)
class _Question:
    """One reference of one remote, and how Flux would word its failure."""

    mirror: Mirror
    url: str
    access: GitAccess
    ref: GitReference
    timeout: float
    listing: bool

    async def resolve(self) -> Resolved:
        ref = self.ref
        if ref.commit:
            return await self._commit()
        if ref.name:
            return await self._name()
        if ref.tag:
            return await self._named(_TAGS + ref.tag)
        if ref.semver:
            return await self._semver()
        return await self._named(_HEADS + (ref.branch or DEFAULT_BRANCH))

    async def _commit(self) -> Resolved:
        ref, sha = self.ref, self.ref.commit
        self.listing = False
        if not _SHA1.fullmatch(sha):
            raise self.error(f"unable to resolve commit object for '{sha}': object not found")
        if not ref.branch:
            return Resolved(ref._revision("", sha), sha, "")
        name = _HEADS + ref.branch
        if name not in await self._list(_HEADS):
            raise await self._absent(name)
        return Resolved(ref._revision(name, sha), sha, name)

    async def _name(self) -> Resolved:
        name = self.ref.name
        self.listing = True
        if name.startswith("/") or name.endswith("/"):
            text = f"ref {name} is invalid; Git refs cannot begin or end with a slash '/'"
            raise self.error(text)
        plain = name.removesuffix(_PEELED)
        prefix = next((part for part in (_HEADS, _TAGS) if name.startswith(part)), "")
        found = await self._list(prefix)
        sha = found.get(plain + _PEELED) or found.get(name)
        if sha is None:
            if not found and not await self._list(""):
                raise self.failed(Failure("other", "remote repository is empty"))
            raise self.error(f"unable to resolve ref '{name}' to a specific commit")
        return Resolved(self.ref._revision(plain, sha), sha, plain)

    async def _named(self, name: str) -> Resolved:
        found = await self._list(_TAGS if name.startswith(_TAGS) else _HEADS)
        sha = found.get(name + _PEELED) or found.get(name)
        if sha is None:
            raise await self._absent(name)
        return Resolved(self.ref._revision(name, sha), sha, name)

    async def _semver(self) -> Resolved:
        self.listing = False
        try:
            constraint = Constraint.parse(self.ref.semver)
        except ValueError as error:
            raise self.error(f"semver parse error: {error}") from None
        found = await self._list(_TAGS)
        tag = await asyncio.to_thread(_newest, constraint, found)
        if tag is None:
            if not found and not await self._list(""):
                raise self.failed(Failure("other", "remote repository is empty"))
            raise self.error(f"no match found for semver: {self.ref.semver}")
        name = _TAGS + tag
        sha = found.get(name + _PEELED) or found[name]
        return Resolved(self.ref._revision(name, sha), sha, name)

    async def _list(self, prefix: str) -> Mapping[str, str]:
        return await self.mirror.listing(prefix, self.timeout)

    async def _absent(self, name: str) -> GitError:
        """Word the absence of a reference; an empty repository is another matter."""
        if not await self._list(""):
            if not self.listing and name.startswith(_HEADS) and not self.ref.commit:
                return EmptyRepository("git repository is empty", hint="push a first commit")
            return self.failed(Failure("other", "remote repository is empty"))
        # Flux clones after a listing that has no such reference, so that is what fails.
        self.listing = False
        return self.failed(Failure("other", f'couldn\'t find remote ref "{name}"'))

    async def bring(self, resolved: Resolved) -> Raw:
        """Fetch a commit: by its id, else by its reference, else with all history."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeout
        sha = resolved.commit
        try:
            await self.mirror.fetch(sha, self.timeout)
        except RemoteFailed as error:
            if error.failure.kind != "refused-id":
                raise
            left = max(0.001, deadline - loop.time())
            if self.ref.commit:
                refs = [resolved.ref] if resolved.ref else [f"{_HEADS}*", f"{_TAGS}*"]
                if not await self.mirror.fetch_history(refs, sha, left):
                    text = f"unable to resolve commit object for '{sha}': object not found"
                    raise self.error(text) from None
            else:
                sha = await self.mirror.fetch_ref(resolved.ref, left)
        found = await self.mirror.commit(sha)
        if found is None:
            raise self.error(f"unable to resolve commit object for '{sha}': object not found")
        return found

    def failed(self, failure: Failure) -> GitError:
        """Word a failure as Flux does: by the operation it would have been in."""
        shown = hide_password(self.url)
        words = failure.words
        if failure.kind == "refused-id" and self.ref.commit:
            text = f"unable to resolve commit object for '{self.ref.commit}': {words}"
        elif self.listing:
            text = f"unable to list remote for '{shown}': {words}"
        elif words == "remote repository is empty":
            text = f"unable to clone: {words}: git repository: '{shown}'"
        else:
            text = f"unable to clone '{shown}': {words}"
        return self.error(text, failure.detail, failure.hint)

    def error(self, text: str, detail: str = "", hint: str = "") -> GitError:
        cleaned = (self.access.clean(part) for part in (_PREFIX + text, detail))
        message, rest = cleaned
        return GitError(message, detail=rest, hint=hint)


def _newest(constraint: Constraint, found: Mapping[str, str]) -> str | None:
    return newest(constraint, (ref.removeprefix(_TAGS) for ref in found if not ref.endswith(_PEELED)))


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
