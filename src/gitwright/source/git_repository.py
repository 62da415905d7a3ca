"""GitRepository: from a spec and its Secrets to an artifact.

Role in the flow: asks the remote first and fetches only what is new; takes the
tree of the commit, leaves out what the ignore rules name, and has the store keep
it. Must not know the Kubernetes API: specs and Secrets come as values.
Source: spec/flux-v2.md 2.0 and 2.1; the recordings `git-references` and `source-errors`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gitwright.artifact import ignore
from gitwright.artifact.archive import ArchiveBlobs
from gitwright.artifact.store import Artifact, Store
from gitwright.artifact.tree import BlobMissing, File, Tree
from gitwright.core.errors import Stalled, Transient
from gitwright.transport.access import GitAccess, Remote
from gitwright.transport.git import BlobGone, Blobs, Commit, Entry, GitError, GitReference, Mirrors

KIND = "GitRepository"
_SUBJECT = 50
_PROXY_SCHEMES = ("http", "https", "socks5")
_PROXY_LENGTH = 2048


class AccessInvalid(Transient):
    """A Secret lacks what the URL needs; a new Secret mends it, so it is tried again."""

    reason = "AuthenticationFailed"


@dataclass(frozen=True, slots=True)
class GitSpec:
    """What one GitRepository asks for.

    Args:
        url: `spec.url`.
        reference: `spec.ref`.
        access: made by `credentials`.
        timeout: `spec.timeout`, seconds.
        ignore: `spec.ignore`, or None.
        sparse_checkout: `spec.sparseCheckout`; empty takes the whole tree.
        unsupported: fields that are set and that this engine cannot honour; any one stalls the object,
            because content that should have been verified or completed must not pass for it (S35).
    """

    url: str
    reference: GitReference = field(default_factory=GitReference)
    access: GitAccess = field(default_factory=GitAccess)
    timeout: float = 60.0
    ignore: str | None = None
    sparse_checkout: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()

    @property
    def config(self) -> str:
        """A word for all settings besides the revision that decide an artifact's content."""
        text = json.dumps([self.ignore, list(self.sparse_checkout)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Observed:
    """What was found.

    Args:
        revision: of the artifact, as Flux writes it.
        subject: first line of the commit's message as Flux shortens it; empty when nothing was fetched.
        artifact: the current artifact.
        fetched: an artifact was built; otherwise the one before is still right.
        changed: its digest differs from the one before, which is when Flux sends NewArtifact.
    """

    revision: str
    subject: str
    artifact: Artifact
    fetched: bool
    changed: bool

    @property
    def message(self) -> str:
        """The text of Flux's NewArtifact event."""
        return f"stored artifact for commit '{self.subject or self.revision}'"


class MirrorBlobs:
    """A mirror's blobs as trees want them: a lost one is `BlobMissing`."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def read(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Give the bytes of blobs by id.

        Raises:
            BlobMissing: one is no longer in the mirror.
        """
        try:
            return await self._blobs.read(ids)
        except BlobGone as error:
            raise BlobMissing(error.message, detail=error.detail) from error


async def observe(
    spec: GitSpec,
    *,
    mirrors: Mirrors,
    store: Store,
    namespace: str,
    name: str,
    current: Artifact | None,
    on_new: Callable[[str], Awaitable[None]] | None = None,
) -> Observed:
    """Look at the remote and make the artifact of what is there.

    The remote is asked for the reference first. When the artifact has that revision
    and was made with the same settings, nothing is fetched; a reference that is a
    commit's id alone is not even asked for.

    Args:
        spec: what is asked for.
        mirrors: the Git mirrors.
        store: where artifacts lie.
        namespace: the object's namespace.
        name: the object's name.
        current: its artifact as `store.open` verified it, or None.
        on_new: called with a new revision before it is fetched.

    Raises:
        GitError: with Flux's message.
        Stalled: URL or a field that cannot be honoured.
        TreeError: the tree is larger than a limit.
        StorageError: the store's disk refused.
    """
    _refuse_unsupported(spec)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + spec.timeout
    url, access, ref = spec.url, spec.access, spec.reference
    # Other settings make other content of the same commit.
    fresh = current if current is not None and current.config == spec.config else None
    if fresh is not None and fresh.revision == ref.revision_of_commit():
        return await _unchanged(fresh, spec, mirrors, store)
    resolved = await mirrors.resolve(url, access, ref, spec.timeout, known=current is not None)
    if fresh is not None and fresh.revision == resolved.revision:
        return await _unchanged(fresh, spec, mirrors, store)
    if on_new is not None and (current is None or current.revision != resolved.revision):
        await on_new(resolved.revision)
    left = max(0.001, deadline - loop.time())
    commit = await mirrors.fetch(url, access, ref, resolved, left)
    try:
        tree = await tree_of(spec, commit, mirrors)
        artifact = await store.put(
            KIND, namespace, name, commit.revision, tree, id=commit.sha, config=spec.config
        )
    except BlobMissing:
        # The mirror is damaged; without it the next try fetches everything again.
        await mirrors.forget(url, access)
        raise
    changed = current is None or current.digest != artifact.digest
    return Observed(commit.revision, shorten(commit.subject), artifact, fetched=True, changed=changed)


def _refuse_unsupported(spec: GitSpec) -> None:
    if spec.unsupported:
        raise Stalled(
            f"unsupported fields: {', '.join(spec.unsupported)}",
            reason="UnsupportedField",
            hint="remove them, or let Flux's source-controller reconcile this object",
        )


async def _unchanged(current: Artifact, spec: GitSpec, mirrors: Mirrors, store: Store) -> Observed:
    if isinstance(current.tree.reader, ArchiveBlobs):
        # After a restart the tree came from the archive; the mirror reads single files much faster.
        sha = current.revision.rpartition(":")[2]
        if await mirrors.has(spec.url, spec.access, sha):
            reader = MirrorBlobs(mirrors.blobs(spec.url, spec.access))
            store.attach(current.kind, current.namespace, current.name, reader)
            current = store.current(current.kind, current.namespace, current.name) or current
    return Observed(current.revision, "", current, fetched=False, changed=False)


async def tree_of(spec: GitSpec, commit: Commit, mirrors: Mirrors) -> Tree:
    """Give a fetched commit's tree without what sparse checkout and ignore rules leave out.

    Raises:
        GitError: a sparse checkout directory is not in the repository.
    """
    entries = await mirrors.files(spec.url, spec.access, commit.sha)
    reader = MirrorBlobs(mirrors.blobs(spec.url, spec.access))
    if spec.sparse_checkout:
        entries = await asyncio.to_thread(_sparse, entries, spec.sparse_checkout)
    found = await asyncio.to_thread(_ignore_files, entries)
    texts = await reader.read(tuple(dict.fromkeys(found.values()))) if found else {}
    rules = {path: texts[blob].decode(errors="replace") for path, blob in found.items()}
    return await asyncio.to_thread(_build, entries, rules, spec.ignore, reader)


def _ignore_files(entries: Mapping[str, Entry]) -> dict[str, str]:
    """Give path and blob of every ignore file."""
    name = ignore.IGNORE_FILE
    return {
        path: entry.id
        for path, entry in entries.items()
        if entry.link is None and (path == name or path.endswith("/" + name))
    }


def _sparse(entries: Mapping[str, Entry], directories: Sequence[str]) -> dict[str, Entry]:
    # Flux compares beginnings of paths, not whole names.
    starts = tuple(directory.removeprefix("./") for directory in directories)
    for directory, start in zip(directories, starts, strict=True):
        whole = start.rstrip("/")
        if whole and not any(path == whole or path.startswith(whole + "/") for path in entries):
            raise GitError(
                f"failed to sparse checkout directories : sparse checkout dir '{directory}' "
                f"does not exist in repository: lstat {whole}: no such file or directory",
                hint="correct spec.sparseCheckout",
            )
    return {path: entry for path, entry in entries.items() if path.startswith(starts)}


def _build(
    entries: Mapping[str, Entry], rules: Mapping[str, str], spec_ignore: str | None, reader: MirrorBlobs
) -> Tree:
    matcher = ignore.matcher(rules, spec_ignore)
    files = {
        path: File(entry.id, entry.size, entry.executable, entry.link)
        for path, entry in entries.items()
        if not matcher.excludes(path)
    }
    return Tree.build(files, reader)


def shorten(subject: str) -> str:
    """Shorten a commit's subject as Flux does: 50 characters and an ellipsis."""
    return subject[:_SUBJECT] + "..." if len(subject) > _SUBJECT else subject


def credentials(
    url: str,
    secret_data: Mapping[str, bytes] | None,
    proxy_secret: Mapping[str, bytes] | None = None,
    *,
    secret_name: str = "",
    proxy_name: str = "",
) -> GitAccess:
    """Make the access to a URL from the Secrets that the object names.

    Args:
        url: `spec.url`.
        secret_data: decoded data of `spec.secretRef`'s Secret, or None.
        proxy_secret: decoded data of `spec.proxySecretRef`'s Secret, or None.
        secret_name: `namespace/name` of the first, for messages.
        proxy_name: `namespace/name` of the second.

    Raises:
        AccessInvalid: a key is missing; the message is Flux's.
        Stalled: `URLInvalid`.

    Source: spec/flux-v2.md 2.0 (proxy) and 2.1 (secretRef).
    """
    proxy = _proxy(proxy_secret, proxy_name) if proxy_secret is not None else ("", "", "")
    remote = Remote.parse(url)
    data = secret_data or {}
    if remote.scheme == "ssh":
        return _ssh(data, secret_name)
    if data.get("githubAppID"):
        raise AccessInvalid(
            f"secretRef '{secret_name}' has github app data but provider is not set to github",
            reason="InvalidProviderConfiguration",
        )
    bearer = _text(data, "bearerToken")
    username = ("" if bearer else _text(data, "username")) or remote.username
    password = ("" if bearer else _text(data, "password")) or remote.password
    if password and not username:
        raise _option(remote.scheme, "'password' requires 'username' to be set")
    if bearer and (username or password):
        raise AccessInvalid(
            "failed to checkout and determine revision: "
            "basic auth and bearer token cannot be set at the same time",
            reason="GitOperationFailed",
            hint="take the user name out of spec.url",
        )
    certificate, key = data.get("tls.crt", b""), data.get("tls.key", b"")
    return GitAccess(
        username=username,
        password=password,
        bearer=bearer,
        ca=data.get("ca.crt") or data.get("caFile") or b"",
        client_cert=certificate if key else b"",
        client_key=key if certificate else b"",
        proxy=proxy[0],
        proxy_username=proxy[1],
        proxy_password=proxy[2],
    )


def _ssh(data: Mapping[str, bytes], secret_name: str) -> GitAccess:
    for key in ("identity", "known_hosts"):
        if not data.get(key):
            raise _option("ssh", f"'{key}' is required")
    identity, passphrase = data["identity"], _text(data, "password")
    if not passphrase and _is_encrypted(identity):
        raise AccessInvalid(
            "SSH identity key is encrypted but no 'password' field was provided in the secret "
            f"'{secret_name}'"
        )
    return GitAccess(identity=identity, passphrase=passphrase, known_hosts=data["known_hosts"])


def _option(scheme: str, text: str) -> AccessInvalid:
    return AccessInvalid(
        f"failed to configure authentication options: invalid '{scheme}' auth option: {text}",
        hint="complete the Secret that spec.secretRef names",
    )


def _text(data: Mapping[str, bytes], key: str) -> str:
    return data.get(key, b"").decode(errors="surrogateescape")


def _is_encrypted(identity: bytes) -> bool:
    if b"ENCRYPTED" in identity:
        return True
    body = b"".join(line for line in identity.splitlines() if b"-----" not in line)
    if b"BEGIN OPENSSH PRIVATE KEY" not in identity:
        return False
    try:
        raw = base64.b64decode(body)
    except ValueError:
        return False
    # openssh-key-v1, NUL, then the cipher's name with its length in front.
    head = b"openssh-key-v1\0"
    return raw.startswith(head) and raw[len(head) : len(head) + 8] != b"\0\0\0\x04none"


def _proxy(data: Mapping[str, bytes], name: str) -> tuple[str, str, str]:
    """Give address, user name and password of a proxy."""
    before = "failed to configure proxy options: "
    if "address" not in data:
        raise AccessInvalid(f"{before}secret '{name}': key 'address' not found")
    address = _text(data, "address")
    if not address:
        raise AccessInvalid(f"{before}secret '{name}': proxy address is empty")
    if len(address) > _PROXY_LENGTH:
        raise AccessInvalid(
            f"{before}secret '{name}': proxy URL exceeds maximum length of {_PROXY_LENGTH} characters"
        )
    try:
        parts = urllib.parse.urlsplit(address)
        port = parts.port
    except ValueError:
        # The address may hold credentials, so it is not shown.
        raise AccessInvalid(f"{before}secret '{name}': failed to parse proxy address") from None
    if parts.scheme not in _PROXY_SCHEMES:
        schemes = ", ".join(_PROXY_SCHEMES)
        raise AccessInvalid(
            f"{before}secret '{name}': proxy URL must use one of the supported schemes ({schemes}), "
            f"got '{parts.scheme}'"
        )
    host = parts.hostname or ""
    place = f"[{host}]" if ":" in host else host
    plain = f"{parts.scheme}://{place}" + (f":{port}" if port else "")
    if "username" in data:
        return plain, _text(data, "username"), _text(data, "password")
    return plain, urllib.parse.unquote(parts.username or ""), urllib.parse.unquote(parts.password or "")
