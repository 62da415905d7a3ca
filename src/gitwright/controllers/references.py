"""What a Kustomization refers to: its source, its dependencies, its variables.

Role in the flow: before the build. Sources and dependencies are read from the
watches; ConfigMaps and Secrets as the tenant (S28). Everything that is not there
yet is raised as `Waiting`, in Flux's words.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gitwright.api.kustomize import KustomizationSpec
from gitwright.core import conditions
from gitwright.core.errors import Denied, GitwrightError, Stalled, Transient, Waiting
from gitwright.core.objects import GVK, JSON
from gitwright.formats import cel
from gitwright.kube.client import Client
from gitwright.kube.errors import NotFound
from gitwright.observe.redact import Redactor

Finder = Callable[[str, str], JSON | None]

_CONFIG = {"ConfigMap": GVK("", "v1", "ConfigMap"), "Secret": GVK("", "v1", "Secret")}
# Shorter values are words of everyday speech; hiding them would garble every message.
TAINT_FROM = 8


@dataclass(frozen=True, slots=True)
class SourceRef:
    """Where a Kustomization's artifact comes from, its namespace filled in."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


def source_ref(spec: KustomizationSpec, namespace: str) -> SourceRef:
    """Read `spec.sourceRef`; its namespace defaults to the Kustomization's own."""
    ref = spec.source_ref
    return SourceRef(ref.kind, ref.namespace or namespace, ref.name)


def resolve_source(ref: SourceRef, namespace: str, find: Finder, *, cross_namespace: bool) -> JSON:
    """Find the source object, which must have an artifact.

    Args:
        ref: what is referred to.
        namespace: the Kustomization's namespace.
        find: gives a GitRepository by namespace and name from the watch.
        cross_namespace: whether another namespace may be referred to.

    Raises:
        Denied: the reference crosses namespaces and that is blocked.
        Waiting: it is not there, or has no artifact yet.

    Source: spec/flux-v2.md 3.2 and 9.3.
    """
    if ref.namespace != namespace and not cross_namespace:
        raise Denied(
            f"can't access '{ref.kind}/{ref.namespace}/{ref.name}', "
            "cross-namespace references have been blocked",
            reason="AccessDenied",
            place="spec.sourceRef.namespace",
            hint="use a source in the Kustomization's own namespace",
        )
    if ref.kind != "GitRepository":
        raise Transient(
            f"source `{ref.name}` kind '{ref.kind}' not supported",
            reason="ArtifactFailed",
            place="spec.sourceRef.kind",
            hint="this version runs GitRepository sources",
        )
    source = find(ref.namespace, ref.name)
    if source is None:
        raise Waiting(
            f'GitRepository.source.toolkit.fluxcd.io "{ref.name}" not found',
            reason="ArtifactFailed",
            place="spec.sourceRef",
            detail=f"there is no GitRepository {ref.namespace}/{ref.name}",
            hint="it is taken up as soon as it exists",
        )
    return source


def no_artifact(source: JSON, requeue: str) -> Waiting:
    """Make the error of a source that has no artifact yet, with the source's own trouble."""
    ready = conditions.get((source.get("status") or {}).get("conditions") or [], conditions.READY) or {}
    metadata = source["metadata"]
    said = str(ready.get("message") or "it has not been fetched yet")
    if (source.get("spec") or {}).get("suspend"):
        said = "it is suspended, and its files are not stored here (any more)"
    return Waiting(
        f"Source artifact not found, retrying in {requeue}",
        reason="ArtifactFailed",
        subject=f"{source['kind']}/{metadata['namespace']}/{metadata['name']}",
        detail=f"{source['kind']}/{metadata['namespace']}/{metadata['name']}: {said}",
    )


def will_be_fetched(source: JSON) -> bool:
    """Tell whether a source whose files are not stored here will bring them by itself in a moment."""
    found = (source.get("status") or {}).get("conditions") or []
    suspended = (source.get("spec") or {}).get("suspend")
    return not suspended and not conditions.is_true(found, "FetchFailed")


def check_dependencies(
    obj: JSON, spec: KustomizationSpec, ref: SourceRef, revision: str, find: Finder
) -> None:
    """Raise unless every dependency is ready for this revision.

    Args:
        obj: the Kustomization.
        spec: its spec.
        ref: its source.
        revision: the revision of its artifact.
        find: gives a Kustomization by namespace and name from the watch.

    Raises:
        Waiting: a dependency is missing or not ready; a cycle is named.
        Stalled: a `readyExpr` is not valid.

    Source: spec/flux-v2.md 3.6.
    """
    own = str(obj["metadata"]["namespace"])
    for wanted in spec.depends_on or ():
        namespace = wanted.namespace or own
        name = f"{namespace}/{wanted.name}"
        dependency = find(namespace, wanted.name)
        if dependency is None:
            raise Waiting(
                f"dependency '{name}' not found: "
                f'kustomizations.kustomize.toolkit.fluxcd.io "{wanted.name}" not found',
                place="spec.dependsOn",
            )
        if wanted.ready_expr:
            _judge(wanted.ready_expr, name, obj, dependency)
            continue
        problem = _unready(dependency, ref, revision)
        if problem:
            raise Waiting(
                f"dependency '{name}' {problem}",
                place="spec.dependsOn",
                detail=_cycle_text(obj, find) or _trouble(name, dependency),
            )


def _unready(dependency: JSON, ref: SourceRef, revision: str) -> str:
    status = dependency.get("status") or {}
    found = status.get("conditions") or []
    if not found or dependency["metadata"].get("generation") != status.get("observedGeneration"):
        return "is not ready"
    if not conditions.is_true(found, conditions.READY):
        return "is not ready"
    theirs = (dependency.get("spec") or {}).get("sourceRef") or {}
    same = SourceRef(
        str(theirs.get("kind")),
        str(theirs.get("namespace") or dependency["metadata"]["namespace"]),
        str(theirs.get("name")),
    )
    if same == ref and status.get("lastAppliedRevision") != revision:
        return "revision is not up to date"
    return ""


def _trouble(name: str, dependency: JSON) -> str:
    found = (dependency.get("status") or {}).get("conditions") or []
    ready = conditions.get(found, conditions.READY)
    if ready is None or ready.get("status") == "True":
        return ""
    return f"{name} says: {ready.get('message', '')}"


def _judge(expression: str, name: str, obj: JSON, dependency: JSON) -> None:
    try:
        program = cel.compile(expression, ("self", "dep"), "bool")
    except cel.CelError as error:
        raise Stalled(
            f"Reconciliation failed terminally due to configuration error: "
            f"failed to evaluate dependency {dependency['metadata']['name']}: {error.message}",
            reason="InvalidCELExpression",
            place="spec.dependsOn.readyExpr",
            detail=error.detail,
        ) from error
    try:
        ready = program.evaluate_bool({"self": obj, "dep": dependency})
    except cel.CelError as error:
        raise Waiting(error.message, place="spec.dependsOn.readyExpr", detail=error.detail) from error
    if not ready:
        raise Waiting(
            f"dependency '{name}' is not ready according to readyExpr eval", place="spec.dependsOn.readyExpr"
        )


def _cycle_text(obj: JSON, find: Finder) -> str:
    cycle = find_cycle(obj, find)
    return f"the dependencies form a cycle: {' -> '.join(cycle)}" if cycle else ""


def find_cycle(obj: JSON, find: Finder) -> list[str]:
    """Give the names along a cycle of `dependsOn` that leads back to `obj`, or nothing.

    Args:
        obj: a Kustomization.
        find: gives a Kustomization by namespace and name.
    """
    start = f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
    stack: list[tuple[JSON, list[str]]] = [(obj, [start])]
    seen: set[str] = set()
    while stack:
        current, path = stack.pop()
        for wanted in (current.get("spec") or {}).get("dependsOn") or ():
            namespace = str(wanted.get("namespace") or current["metadata"]["namespace"])
            name = f"{namespace}/{wanted.get('name')}"
            if name == start:
                return [*path, start]
            found = find(namespace, str(wanted.get("name")))
            if found is not None and name not in seen:
                seen.add(name)
                stack.append((found, [*path, name]))
    return []


async def variables(
    spec: KustomizationSpec, namespace: str, client: Client, redactor: Redactor
) -> Mapping[str, str] | None:
    """Collect the variables of `spec.postBuild`, later ones over earlier ones.

    Args:
        spec: the Kustomization's spec.
        namespace: its namespace; references do not leave it.
        client: reads as the tenant.
        redactor: is told the values of Secrets, so that no message shows them.

    Returns:
        The variables, or None when there is no postBuild.

    Raises:
        Transient: a reference that is not optional cannot be read; the message is the
            end of Flux's, `substitute from ... error: ...`.

    Source: spec/flux-v2.md 3.4.
    """
    post_build = spec.post_build
    if post_build is None:
        return None
    found: dict[str, str] = {}
    for ref in post_build.substitute_from or ():
        try:
            config = await client.get(_CONFIG[ref.kind], ref.name, namespace)
        except NotFound as error:
            if ref.optional:
                continue
            raise _unreadable(ref.kind, ref.name, error) from error
        except GitwrightError as error:
            raise _unreadable(ref.kind, ref.name, error) from error
        found.update(_values(ref.kind, config, redactor))
    found.update(post_build.substitute or {})
    return found


def _unreadable(kind: str, name: str, error: GitwrightError) -> Transient:
    return Transient(
        f"substitute from '{kind}/{name}' error: {error.message}",
        reason="BuildFailed",
        place="spec.postBuild.substituteFrom",
        hint="create it, or mark the reference optional",
    )


def _values(kind: str, config: Mapping[str, Any], redactor: Redactor) -> dict[str, str]:
    data = config.get("data") or {}
    if kind == "ConfigMap":
        return {str(name): str(value) for name, value in data.items()}
    values = {str(name): base64.b64decode(value).decode("utf-8", "replace") for name, value in data.items()}
    for value in values.values():
        if len(value) >= TAINT_FROM:
            redactor.taint(value)
    return values
