"""`gitwright suspend` and `gitwright resume`: stop and go on reconciling objects."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from gitwright.cli import kinds
from gitwright.cli.connect import FIELD_MANAGER, connected, only_names
from gitwright.cli.failures import FAILED, YES, advise, exit_code
from gitwright.cli.kinds import Kind
from gitwright.cli.options import Session, Verb, in_session
from gitwright.cli.reconcile import conclude, wait_ready
from gitwright.core.errors import Denied, GitwrightError
from gitwright.core.objects import JSON
from gitwright.kube.client import Client
from gitwright.kube.errors import NoKindMatch, NotFound


@click.command(cls=Verb, name="suspend", short_help="Stop reconciling objects.")
@click.argument("what", nargs=-1, metavar="KIND NAME...")
@click.option("--all", "everything", is_flag=True, help="All objects of the kind in the namespace.")
@in_session
def suspend(session: Session, what: tuple[str, ...], everything: bool) -> int:
    r"""Stop reconciling objects, until they are resumed.

    \b
    Examples:
      gitwright suspend kustomization apps
      gitwright suspend source git podinfo other
      gitwright suspend ks --all -n tenants
    """
    kind, names = _targets(what, everything)
    return session.run(_suspend(session, kind, names))


@click.command(cls=Verb, name="resume", short_help="Go on reconciling suspended objects.")
@click.argument("what", nargs=-1, metavar="KIND NAME...")
@click.option("--all", "everything", is_flag=True, help="All objects of the kind in the namespace.")
@click.option(
    "--wait/--no-wait",
    default=None,
    help="Wait until the objects are reconciled (waits when one is named, not for several).",
)
@in_session
def resume(session: Session, what: tuple[str, ...], everything: bool, wait: bool | None) -> int:
    r"""Go on reconciling suspended objects, and wait for the first result.

    The exit code is 1 when an object that was waited for is not ready.

    \b
    Examples:
      gitwright resume kustomization apps
      gitwright resume source git podinfo other --wait
      gitwright resume ks --all -n tenants
    """
    kind, names = _targets(what, everything)
    # Source: Flux waits by default when exactly one object is named.
    waits = len(names) == 1 if wait is None else wait
    return session.run(_resume(session, kind, names, waits))


def _targets(what: tuple[str, ...], everything: bool) -> tuple[Kind, tuple[str, ...]]:
    target = kinds.parse(what)
    (kind,) = target.kinds
    return kind, only_names(target.names, everything, kind.human)


async def _suspend(session: Session, kind: Kind, names: tuple[str, ...]) -> int:
    async with connected(session) as client:
        objects, worst = await _chosen(session, client, kind, names)
        for obj in objects:
            code = await _turn(session, client, kind, obj, "suspending", "suspended", value=True)
            worst = max(worst, code)
    return worst


async def _resume(session: Session, kind: Kind, names: tuple[str, ...], waits: bool) -> int:
    async with connected(session) as client:
        objects, worst = await _chosen(session, client, kind, names)
        resumed = []
        for obj in objects:
            code = await _turn(session, client, kind, obj, "resuming", "resumed", value=None)
            worst = max(worst, code)
            if code == YES:
                resumed.append(str(obj["metadata"]["name"]))
        if waits and resumed:
            worst = max(worst, await _wait(session, client, kind, resumed))
    return worst


async def _chosen(
    session: Session, client: Client, kind: Kind, names: tuple[str, ...]
) -> tuple[list[JSON], int]:
    """Give the objects to act on, and the exit code that the missing ones ask for."""
    namespace = session.options.namespace
    if not names:
        objects = (await client.list(kind.gvk, namespace)).items
        if not objects:
            session.console.failure(f"no {kind.name} objects found in {namespace} namespace")
        return sorted(objects, key=lambda obj: str(obj["metadata"]["name"])), YES
    found, worst = [], YES
    for name in names:
        try:
            found.append(await client.get(kind.gvk, name, namespace))
        except NoKindMatch:
            raise
        except NotFound:
            session.console.failure(
                f"{kind.name} {name} not found in {namespace} namespace",
                hint=f"see where there are any with `gitwright get {kind.api.plural} -A`",
            )
            worst = FAILED
    return found, worst


async def _turn(
    session: Session, client: Client, kind: Kind, obj: JSON, doing: str, done: str, *, value: bool | None
) -> int:
    """Write `spec.suspend` of one object, None to remove it; one that is so already is left alone."""
    name, namespace = str(obj["metadata"]["name"]), session.options.namespace
    session.console.action(f"{doing} {kind.human} {name} in {namespace} namespace")
    if kinds.is_suspended(obj) != bool(value):
        body: dict[str, Any] = {"spec": {"suspend": value}}
        try:
            await client.patch(kind.gvk, name, namespace, body, kind="merge", field_manager=FIELD_MANAGER)
        except (NotFound, Denied) as error:
            error.subject = error.subject or f"{kind.name}/{namespace}/{name}"
            advise(error)
            session.console.error(error)
            return exit_code(error)
    session.console.success(f"{kind.human} {done}")
    return YES


async def _wait(session: Session, client: Client, kind: Kind, names: list[str]) -> int:
    console, namespace = session.console, session.options.namespace
    for _name in names:
        console.wait(f"waiting for {kind.name} reconciliation")
    console.progress.hint = f"give it longer with --timeout, or see `gitwright get {kind.api.plural}`"
    with console.waiting():
        results = await asyncio.gather(
            *(wait_ready(session, client, kind, namespace, name) for name in names), return_exceptions=True
        )
    worst = YES
    for name, result in zip(names, results, strict=True):
        try:
            if isinstance(result, BaseException):
                raise result
            conclude(session, kind, result, resumed=name)
        except GitwrightError as error:
            console.error(error)
            worst = max(worst, exit_code(error))
    return worst
