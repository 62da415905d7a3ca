"""`gitwright reconcile`: ask for a reconciliation now and wait for what comes of it."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from gitwright.api import meta
from gitwright.cli import kinds, readiness
from gitwright.cli.connect import FIELD_MANAGER, connected, until
from gitwright.cli.failures import YES, Misuse, Negative
from gitwright.cli.kinds import Kind, nested
from gitwright.cli.options import Session, Verb, in_session
from gitwright.core.errors import GitwrightError, Stalled
from gitwright.core.objects import JSON
from gitwright.kube.client import Client
from gitwright.kube.errors import NoKindMatch, NotFound


@click.command(cls=Verb, name="reconcile", short_help="Reconcile an object now, and wait.")
@click.argument("what", nargs=-1, metavar="KIND NAME")
@click.option("--with-source", is_flag=True, help="Reconcile the source of a Kustomization first.")
@in_session
def reconcile(session: Session, what: tuple[str, ...], with_source: bool) -> int:
    r"""Reconcile an object now, and wait for what comes of it.

    KIND is kustomization (ks) or source git (gitrepository, gitrepo). The exit
    code is 1 when the object is not ready afterwards.

    \b
    Examples:
      gitwright reconcile kustomization apps --with-source
      gitwright reconcile source git podinfo --timeout 1m
    """
    target = kinds.parse(what)
    if len(target.names) != 1:
        (kind,) = target.kinds
        raise Misuse(f"{kind.name} name is required", hint="name exactly one object")
    return session.run(_reconcile(session, target.kinds[0], target.names[0], with_source))


async def _reconcile(session: Session, kind: Kind, name: str, with_source: bool) -> int:
    namespace = session.options.namespace
    if with_source and kind is not kinds.KUSTOMIZATION:
        raise Misuse("--with-source is for Kustomizations", place="--with-source")
    async with connected(session) as client:
        obj = await _ready_to_ask(client, kind, namespace, name)
        if with_source:
            source, source_namespace, source_name = _source(obj)
            await _ready_to_ask(client, source, source_namespace, source_name)
            await ask(session, client, source, source_namespace, source_name)
        await ask(session, client, kind, namespace, name)
    return YES


async def _ready_to_ask(client: Client, kind: Kind, namespace: str, name: str) -> JSON:
    obj = await found(client, kind, namespace, name)
    if kinds.is_suspended(obj):
        raise Stalled(
            "resource is suspended",
            reason="Suspended",
            subject=f"{kind.name}/{namespace}/{name}",
            place="spec.suspend",
            hint=f"resume it with `gitwright resume {kind.human} {name} -n {namespace}`",
        )
    return obj


def _source(obj: JSON) -> tuple[Kind, str, str]:
    reference = nested(obj, "spec", "sourceRef") or {}
    wanted = str(reference.get("kind", ""))
    kind = next((kind for kind in kinds.SOURCES.values() if kind.name == wanted), None)
    if kind is None:
        raise Stalled(f"cannot reconcile source of kind {wanted}", place="spec.sourceRef.kind")
    namespace = str(reference.get("namespace") or obj["metadata"]["namespace"])
    return kind, namespace, str(reference.get("name", ""))


async def found(client: Client, kind: Kind, namespace: str, name: str) -> JSON:
    """Get an object.

    Raises:
        NotFound: it does not exist; says where to look.
    """
    try:
        return await client.get(kind.gvk, name, namespace)
    except NoKindMatch:
        raise
    except NotFound as error:
        error.subject = error.subject or f"{kind.name}/{namespace}/{name}"
        error.hint = error.hint or f"see where there are any with `gitwright get {kind.api.plural} -A`"
        raise


async def ask(session: Session, client: Client, kind: Kind, namespace: str, name: str) -> None:
    """Ask for a reconciliation of one object and wait until it was handled.

    Raises:
        Negative: it was handled, and the object is not ready.
        GitwrightError: the object went away, or the cluster refused.
    """
    console, word = session.console, kind.name
    requested = timestamp(session.now())
    console.action(f"annotating {word} {name} in {namespace} namespace")
    body = {"metadata": {"annotations": {meta.REQUESTED_AT: requested}}}
    await client.patch(kind.gvk, name, namespace, body, kind="merge", field_manager=FIELD_MANAGER)
    console.success(f"{word} annotated")
    console.wait(f"waiting for {word} reconciliation")

    def decide(obj: JSON | None) -> JSON | None:
        if obj is None:
            raise _gone(kind, namespace, name)
        return obj if readiness.handled(obj, requested) and readiness.verdict(obj) else None

    console.progress.hint = f"give it longer with --timeout, or see {events_of(kind, namespace, name)}"
    with console.waiting():
        obj = await until(session, client, kind.gvk, namespace, name, decide, readiness.progress)
    conclude(session, kind, obj)


def conclude(session: Session, kind: Kind, obj: JSON, *, resumed: str = "") -> None:
    """Say what an object that has an answer for its present generation says.

    Args:
        session: whose console.
        kind: the object's kind.
        obj: the object.
        resumed: its name, when it was resumed: Flux then names it in its sentences.

    Raises:
        Negative: it is not ready.
    """
    answer = readiness.verdict(obj)
    word = f"{kind.name} {resumed}" if resumed else kind.name
    if answer is None or not answer.ready:
        name, namespace = obj["metadata"]["name"], obj["metadata"]["namespace"]
        message = answer.message if answer else "status unknown"
        raise Negative(
            f"{word} reconciliation failed: {message}",
            subject=f"{kind.name}/{namespace}/{name}",
            # The engine's own hint, which ends its message, is the better one.
            hint="" if "\nhint: " in message else "see " + events_of(kind, namespace, name),
        )
    if resumed:
        session.console.success(f"{word} reconciliation completed")
    session.console.success(f"{kind.done} {kind.revision(obj)}")


def events_of(kind: Kind, namespace: str, name: str) -> str:
    """Write the command that shows what happened to an object."""
    return f"`gitwright events --for {kind.name}/{name} -n {namespace}`"


def _gone(kind: Kind, namespace: str, name: str) -> GitwrightError:
    return Stalled(
        f"{kind.name} was deleted while it was waited for",
        reason="NotFound",
        subject=f"{kind.name}/{namespace}/{name}",
    )


def timestamp(now: float) -> str:
    """Write a time as Flux writes requests: RFC 3339 with fractions of a second, in UTC."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


async def wait_ready(session: Session, client: Client, kind: Kind, namespace: str, name: str) -> JSON:
    """Wait until an object says whether its present generation is ready; give its state then.

    Raises:
        GitwrightError: the object went away.
    """

    def decide(obj: JSON | None) -> JSON | None:
        if obj is None:
            raise _gone(kind, namespace, name)
        return obj if readiness.verdict(obj) else None

    return await until(session, client, kind.gvk, namespace, name, decide, readiness.progress)
