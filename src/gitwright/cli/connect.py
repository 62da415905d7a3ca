"""Opening the cluster that a verb speaks to, and watching single objects in it.

Role in the flow: between a verb and `kube`. Knows no kind and decides nothing:
what a state means is asked of the function that the verb hands in.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from gitwright.cli.failures import Misuse
from gitwright.cli.options import Session
from gitwright.core.objects import GVK, JSON
from gitwright.kube import config
from gitwright.kube.client import Client
from gitwright.kube.informer import Change, Informer
from gitwright.observe import logging
from gitwright.observe.redact import Redactor

# Fields that a person changes by a verb belong to whom they would with Flux's command line, so that Git takes
# them back, or does not, exactly as it would there. Source: controller-runtime's default manager of `flux`.
FIELD_MANAGER = "flux"

T = TypeVar("T")


@asynccontextmanager
async def connected(session: Session) -> AsyncIterator[Client]:
    """Open a client for the cluster that the shared options name, and close it.

    Raises:
        GitwrightError: no usable configuration, or the cluster does not answer.
    """
    options = session.options
    logging.configure("debug" if options.verbose else "error", "text", session.console.err, Redactor())
    loaded = config.load(options.kubeconfig or None, options.context or None, session.environment)
    # A plugin that asks for a password may do so only where somebody can answer.
    loaded = replace(loaded, interactive=sys.stdin.isatty())
    async with await Client.open(loaded) as client:
        yield client.impersonate(options.user, options.groups) if options.user else client


def typed(gvk: GVK, obj: JSON) -> JSON:
    """Give an object its `apiVersion` and `kind`, which the items of a list lack."""
    return {**obj, "apiVersion": gvk.api_version, "kind": gvk.kind}


@asynccontextmanager
async def changes(
    client: Client,
    gvk: GVK,
    namespace: str,
    *,
    labels: str = "",
    fields: str = "",
    into: asyncio.Queue[Change[JSON] | None] | None = None,
) -> AsyncIterator[tuple[asyncio.Queue[Change[JSON] | None], Informer[JSON]]]:
    """Watch objects into a queue while the block runs.

    The queue gets a `Change` for each object there is and for each change after,
    and None once, as soon as all there was has been seen.

    Args:
        client: who asks.
        gvk: the kind.
        namespace: empty for all.
        labels: a label selector.
        fields: a field selector.
        into: a queue to share with other watches, or None for one of its own.
    """
    queue = asyncio.Queue[Change[JSON] | None]() if into is None else into
    project = functools.partial(typed, gvk)
    informer = Informer(client, gvk, project=project, namespace=namespace, labels=labels, fields=fields)
    unsubscribe = informer.subscribe(queue.put_nowait)

    async def announce() -> None:
        await informer.synced()
        queue.put_nowait(None)

    tasks = [asyncio.create_task(informer.run()), asyncio.create_task(announce())]
    try:
        yield queue, informer
    finally:
        unsubscribe()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(
    session: Session,
    client: Client,
    gvk: GVK,
    namespace: str,
    name: str,
    decide: Callable[[JSON | None], T | None],
    progress: Callable[[JSON], str],
) -> T:
    """Watch one object until a function has an answer, and give that answer.

    Args:
        session: whose console shows how far it is.
        client: who asks.
        gvk: the kind.
        namespace: empty for a kind without.
        name: the object.
        decide: gets each state of the object, None when it does not exist; None means go on.
        progress: says in a few words how far a state is.
    """
    subject = "/".join(part for part in (gvk.kind, namespace, name) if part)
    async with changes(client, gvk, namespace, fields=f"metadata.name={name}") as (queue, informer):
        session.console.progress.say(f"{subject}: waiting for its state")
        try:
            while True:
                await queue.get()
                state = informer.get(namespace, name)
                if state is None and not informer.has_synced:
                    continue
                answer = decide(state)
                if answer is not None:
                    return answer
                session.console.progress.say(f"{subject}: {progress(state) if state else 'not found'}")
        except asyncio.CancelledError:
            if informer.last_error:
                session.console.progress.say(f"{subject}: {informer.last_error}")
            raise


def only_names(names: tuple[str, ...], everything: bool, human: str) -> tuple[str, ...]:
    """Check that objects are named, or all of them meant, but not both; give the names once each.

    Raises:
        Misuse: neither or both.
    """
    if not names and not everything:
        raise Misuse(f"{human} name is required", hint="give a name, or --all for all in the namespace")
    if names and everything:
        raise Misuse("give names or --all, not both")
    return tuple(dict.fromkeys(names))
