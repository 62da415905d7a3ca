"""The reconciler of GitRepositories: from a URL and a reference to a stored artifact.

Role in the flow: the first of all; Kustomizations take what it stores. A look that
finds nothing new writes nothing. It does not know who uses the artifact.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

from gitwright.api import meta
from gitwright.api.base import LocalObjectReference
from gitwright.api.kinds import decode
from gitwright.api.source import GitRepository
from gitwright.artifact.store import Artifact, Store
from gitwright.controllers import conclude as outcome
from gitwright.controllers.conclude import Pace
from gitwright.controllers.desk import Desk
from gitwright.core import conditions
from gitwright.core.errors import GitwrightError, Stalled, Transient
from gitwright.core.objects import GVK, JSON
from gitwright.kube.client import Client
from gitwright.kube.errors import ApiError, NotFound
from gitwright.notify.events import Note
from gitwright.observe.redact import Redactor
from gitwright.runtime.controller import Outcome, Request, Slot, Superseded
from gitwright.source import git_repository as source
from gitwright.transport.git import GitReference, Mirrors

KIND = GVK(meta.SOURCE_GROUP, "v1", meta.GIT_REPOSITORY)
_SECRET = GVK("", "v1", "Secret")
_LONGEST_BACKOFF = 900.0
# Keys of a Secret that are no secrets; masking a user's name would garble ordinary words.
_PUBLIC = frozenset(
    {"username", "known_hosts", "identity.pub", "ca.crt", "caFile", "tls.crt", "certFile", "address"}
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the engine's settings say about GitRepositories.

    Args:
        reader_account: service account of the object's namespace to read Secrets as;
            empty for the engine itself.
    """

    reader_account: str = ""


class GitRepositoryReconciler:
    """Reconciles GitRepositories.

    Args:
        desk: reads and writes our own objects.
        client: reads Secrets, as the engine or as the tenant.
        mirrors: the Git mirrors.
        store: the artifacts.
        redactor: is told the values of Secrets.
        options: see `Options`.
        restored: called with namespace and name when an artifact that the status shows
            was missing here and is there again.
    """

    def __init__(
        self,
        desk: Desk,
        client: Client,
        *,
        mirrors: Mirrors,
        store: Store,
        redactor: Redactor,
        options: Options,
        restored: Callable[[str, str], None],
    ) -> None:
        self._desk = desk
        self._client = client
        self._mirrors = mirrors
        self._store = store
        self._redactor = redactor
        self._options = options
        self._restored = restored

    async def reconcile(self, request: Request, slot: Slot) -> Outcome:
        """Look at the repository and store what is new, and say so in the status."""
        obj = self._desk.find(KIND, request.namespace, request.name)
        if obj is None:
            return Outcome(gone=True)
        started = self._desk.monotonic()
        try:
            typed = decode(GitRepository, obj)
        except Stalled as error:
            if obj["metadata"].get("deletionTimestamp"):
                # Nothing in its spec decides what becomes of it.
                await self._finalize(obj, request)
                return Outcome()
            return await self._conclude(obj, None, error, Pace(0.0, 0.0, 0.0), started)
        if typed.deleting:
            await self._finalize(obj, request)
            return Outcome()
        if not typed.finalized:
            obj = await self._desk.add_finalizer(KIND, obj, meta.SOURCE_MANAGER)
        if typed.suspended:
            return Outcome()
        pace = Pace(typed.interval, typed.interval, typed.interval)
        await self._collect(obj, typed)
        try:
            obj, seen = await self._observe(obj, typed, slot)
        except GitwrightError as error:
            return await self._conclude(obj, None, error, pace, started)
        except Superseded:
            raise
        except Exception as error:
            wrong = outcome.unforeseen(error, meta.GIT_OPERATION_FAILED)
            await self._conclude(obj, None, wrong, pace, started)
            raise
        return await self._conclude(obj, seen, None, pace, started)

    async def _observe(self, obj: JSON, typed: GitRepository, slot: Slot) -> tuple[JSON, source.Observed]:
        _refuse_unsupported(typed)
        if _unseen(obj, typed.generation):
            status = outcome.source_progress(obj, self._desk.now())
            obj = await self._desk.write_status(obj, status, meta.SOURCE_MANAGER)
        spec = await self._spec(typed)
        current = await self._store.open(KIND.kind, typed.namespace, typed.name)
        seen = await slot.interruptible(
            source.observe(
                spec,
                mirrors=self._mirrors,
                store=self._store,
                namespace=typed.namespace,
                name=typed.name,
                current=current,
            )
        )
        if current is None:
            self._restored(typed.namespace, typed.name)
        return obj, seen

    async def _spec(self, typed: GitRepository) -> source.GitSpec:
        given = typed.ref
        return source.GitSpec(
            url=typed.spec.url,
            reference=GitReference(
                branch=given.branch, tag=given.tag, semver=given.semver, name=given.name, commit=given.commit
            ),
            access=source.credentials(
                typed.spec.url,
                await self._secret(typed, typed.spec.secret_ref),
                await self._secret(typed, typed.spec.proxy_secret_ref),
                secret_name=_named(typed, typed.spec.secret_ref),
                proxy_name=_named(typed, typed.spec.proxy_secret_ref),
            ),
            timeout=typed.timeout,
            ignore=typed.spec.ignore,
            sparse_checkout=typed.spec.sparse_checkout,
        )

    async def _secret(
        self, typed: GitRepository, ref: LocalObjectReference | None
    ) -> dict[str, bytes] | None:
        """Read a Secret that the object names, as whoever may (S28), and hide its values."""
        if ref is None:
            return None
        client = self._client
        if self._options.reader_account:
            client = client.impersonate(
                f"system:serviceaccount:{typed.namespace}:{self._options.reader_account}"
            )
        try:
            secret = await client.get(_SECRET, ref.name, typed.namespace)
        except NotFound as error:
            raise Transient(
                f"failed to get secret '{typed.namespace}/{ref.name}': {error.message}",
                reason=meta.AUTHENTICATION_FAILED,
                place="spec.secretRef",
                hint="create the Secret in the namespace of the GitRepository",
            ) from error
        except ApiError as error:
            raise Transient(
                f"failed to get secret '{typed.namespace}/{ref.name}': {error.message}",
                reason=meta.AUTHENTICATION_FAILED,
                place="spec.secretRef",
            ) from error
        values = {name: base64.b64decode(value) for name, value in (secret.get("data") or {}).items()}
        for name, value in values.items():
            if name not in _PUBLIC:
                self._redactor.taint(value)
        return values

    async def _collect(self, obj: JSON, typed: GitRepository) -> None:
        try:
            removed = await self._store.collect(KIND.kind, typed.namespace, typed.name)
        except GitwrightError as error:
            self._desk.tell(obj, Note("Warning", meta.GARBAGE_COLLECTION_FAILED, str(error)))
            return
        if removed:
            text = f"garbage collected {removed} artifacts"
            self._desk.tell(obj, Note("Normal", meta.GARBAGE_COLLECTION_SUCCEEDED, text))

    async def _conclude(
        self,
        obj: JSON,
        seen: source.Observed | None,
        error: GitwrightError | None,
        pace: Pace,
        started: float,
    ) -> Outcome:
        spec = obj.get("spec") or {}
        observed = {
            "observedIgnore": spec.get("ignore"),
            "observedSparseCheckout": spec.get("sparseCheckout"),
        }
        end = outcome.conclude_source(
            obj,
            artifact=shown(seen.artifact) if seen else None,
            observed=observed,
            error=error,
            subject=seen.subject if seen else "",
            pace=pace,
            now=self._desk.now(),
        )
        found = (obj.get("status") or {}).get("conditions") or []
        if error is not None or not conditions.is_true(found, conditions.READY) or end.notes:
            revision = seen.revision if seen else ""
            self._desk.log_outcome(obj, revision, error, self._desk.monotonic() - started)
        await self._desk.write_status(obj, end.status, meta.SOURCE_MANAGER)
        self._desk.tell(obj, *end.notes)
        if end.backoff:
            return Outcome(requeue_after=_LONGEST_BACKOFF, backoff=True)
        return Outcome(requeue_after=self._desk.later(end.requeue_after, spread=True))

    async def _finalize(self, obj: JSON, request: Request) -> None:
        if meta.FINALIZER not in (obj["metadata"].get("finalizers") or ()):
            return
        await self._store.remove(KIND.kind, request.namespace, request.name)
        await self._desk.remove_finalizer(KIND, obj, meta.SOURCE_MANAGER)


def _unseen(obj: JSON, generation: int) -> bool:
    """Whether nothing was ever said of this generation; a retry must not hide the failure it retries."""
    found = (obj.get("status") or {}).get("conditions") or []
    ready = conditions.get(found, conditions.READY)
    return ready is None or ready.get("observedGeneration") != generation


def _named(typed: GitRepository, ref: LocalObjectReference | None) -> str:
    return f"{typed.namespace}/{ref.name}" if ref else ""


def shown(artifact: Artifact) -> JSON:
    """Give an artifact as `status.artifact` shows it."""
    found: JSON = {
        "digest": artifact.digest,
        "lastUpdateTime": artifact.last_update,
        "path": artifact.path,
        "revision": artifact.revision,
        "size": artifact.size,
        "url": artifact.url,
    }
    if artifact.metadata:
        found["metadata"] = dict(artifact.metadata)
    return found


def _refuse_unsupported(typed: GitRepository) -> None:
    """Refuse what this version does not do, rather than do something else (law 2)."""
    spec = typed.spec
    unsupported = {
        "verify": spec.verify,
        "include": spec.include,
        "recurseSubmodules": spec.recurse_submodules,
        "serviceAccountName": spec.service_account_name,
        "provider": typed.provider != "generic",
    }
    for name, value in unsupported.items():
        if value:
            raise Stalled(
                f"spec.{name} is not supported by this version of gitwright",
                reason=meta.FEATURE_GATE_DISABLED,
                place=f"spec.{name}",
                hint="leave this GitRepository to Flux, or remove the field",
            )
