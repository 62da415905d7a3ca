"""`gitwright uninstall`: take the engine out of a cluster; what it applied stays.

The order matters. The engine goes first, and is waited for: a running engine would
put its finalizers back, and would prune what belongs to an object being deleted.
Only then are finalizers removed, and definitions deleted where that is asked for.
Source: Flux's `uninstall`; design, section 4.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal

import click

from gitwright import __version__
from gitwright.api import manifests, meta
from gitwright.api.kinds import KINDS
from gitwright.cli.check import CRD, DEPLOYMENT, LEASE, OURS, Holder, lease
from gitwright.cli.connect import connected, typed, until
from gitwright.cli.failures import FAILED, YES, Misuse, Negative, exit_code
from gitwright.cli.kinds import nested
from gitwright.cli.options import Session, Verb, in_session
from gitwright.core.errors import GitwrightError, Stalled
from gitwright.core.objects import GVK, JSON, apply_rank, gvk_of, key_of
from gitwright.kube.client import Client
from gitwright.kube.errors import NoKindMatch, NotFound

Propagation = Literal["Background", "Foreground"]

_NAMESPACE: Final = GVK("", "v1", "Namespace")
_FLUX: Final = f"{meta.PART_OF_LABEL}=flux"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be removed.

    Args:
        keep_namespace: leave the namespace.
        definitions: delete the definitions, and with them every object of ours.
        dry_run: ask the server without changing anything.
    """

    keep_namespace: bool
    definitions: bool
    dry_run: bool

    @property
    def mark(self) -> str:
        """What follows a sentence about something that only might have happened."""
        return " (dry run)" if self.dry_run else ""


@click.command(cls=Verb, name="uninstall", short_help="Remove the engine from a cluster.")
@click.option("--keep-namespace", is_flag=True, help="Leave the namespace.")
@click.option(
    "--crds",
    "definitions",
    is_flag=True,
    help="Delete the custom resource definitions too, and every GitRepository and Kustomization.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("-y", "--yes", "-s", "--silent", "confirmed", is_flag=True, help="Do not ask.")
@in_session
def uninstall(
    session: Session, keep_namespace: bool, definitions: bool, dry_run: bool, confirmed: bool
) -> int:
    r"""Remove the engine from a cluster; what it applied stays and keeps running.

    Finalizers are taken off GitRepositories and Kustomizations, so that deleting them
    later prunes nothing, unless Flux's own controllers are there to go on.

    \b
    Examples:
      gitwright uninstall --dry-run
      gitwright uninstall --yes --keep-namespace
    """
    plan = Plan(keep_namespace, definitions, dry_run)
    if not confirmed and not dry_run:
        _confirm(session, plan)
    return session.run(_uninstall(session, plan))


def _confirm(session: Session, plan: Plan) -> None:
    if not sys.stdin.isatty():
        raise Misuse("nobody can be asked: this is no terminal", hint="confirm with --yes")
    more = ", its custom resource definitions and all their objects" if plan.definitions else ""
    question = f"Are you sure you want to remove gitwright{more} from {session.options.namespace}"
    if not click.confirm(question, err=True):
        raise Negative("nothing was removed")


async def _uninstall(session: Session, plan: Plan) -> int:
    console, namespace = session.console, session.options.namespace
    remover = _Remover(session, plan)
    async with connected(session) as client:
        flux = (await client.list(DEPLOYMENT, namespace, labels=_FLUX)).items
        console.action(f"deleting components in {namespace} namespace")
        await remover.components(client)
        if flux:
            console.note(f"Flux's controllers are in {namespace} namespace: finalizers and definitions stay")
        else:
            await remover.engines_gone(client)
            console.action("deleting toolkit.fluxcd.io finalizers in all namespaces")
            await remover.finalizers(client)
            if plan.definitions:
                console.action("deleting toolkit.fluxcd.io custom resource definitions")
                await remover.definitions(client)
        if not plan.keep_namespace:
            await remover.namespace(client)
    if remover.worst == YES:
        console.success("uninstall finished" + plan.mark)
    else:
        console.failure("uninstall is not complete", "run it again when the cause is gone")
    return remover.worst


class _Remover:
    """Removes one thing after the other, and goes on when one fails.

    Args:
        session: whose console and namespace.
        plan: what is to be removed.
    """

    def __init__(self, session: Session, plan: Plan) -> None:
        self._session = session
        self._plan = plan
        self._console = session.console
        self._namespace = session.options.namespace
        self.worst = YES

    async def components(self, client: Client) -> None:
        """Delete what `install` made, definitions, namespace and leases left out; the engine first."""
        deployments = await self._list(client, DEPLOYMENT, self._namespace, OURS)
        for obj in deployments:
            await self._delete(client, obj, propagation="Foreground")
        if not self._plan.dry_run:
            for obj in deployments:
                self._console.wait(f"waiting for the pods of {obj['metadata']['name']} to stop")
                with self._console.waiting():
                    name = str(obj["metadata"]["name"])
                    await until(
                        self._session, client, DEPLOYMENT, self._namespace, name, _is_gone, _still_there
                    )
        for gvk, namespaced in component_kinds():
            for obj in await self._list(client, gvk, self._namespace if namespaced else "", OURS):
                await self._delete(client, obj)

    async def engines_gone(self, client: Client) -> None:
        """Wait until nobody holds the leases: whoever does would put finalizers back and prune.

        Raises:
            Stalled: an engine elsewhere keeps its lease.
        """
        if self._plan.dry_run:
            return
        for name in manifests.LEASES:
            holder = await self._holder(client, name)
            if holder is None or not holder.live:
                continue
            self._console.wait(f"waiting for {holder.identity} to let go of {name}")
            self._console.progress.hint = "stop that engine first, then run this again"
            with contextlib.suppress(TimeoutError), self._console.waiting():
                # One that was killed does not let go, but its lease runs out.
                async with asyncio.timeout(holder.left + 1):
                    await until(self._session, client, LEASE, self._namespace, name, _is_free, _held)
            holder = await self._holder(client, name)
            if holder is not None and holder.live:
                raise Stalled(
                    f"{holder.identity} still acts",
                    subject=f"Lease/{self._namespace}/{name}",
                    hint="stop that engine first, then run this again",
                )

    async def _holder(self, client: Client, name: str) -> Holder | None:
        try:
            obj = await client.get(LEASE, name, self._namespace)
        except NotFound:
            return None
        return lease(name, obj, self._session.now())[0]

    async def finalizers(self, client: Client) -> None:
        """Take Flux's finalizer off every object of our kinds."""
        for kind in KINDS:
            for obj in await self._list(client, kind.gvk, "", ""):
                rest = [
                    item for item in nested(obj, "metadata", "finalizers") or [] if item != meta.FINALIZER
                ]
                if rest != (nested(obj, "metadata", "finalizers") or []):
                    await self._try(
                        f"{key_of(obj).subject} finalizers deleted", self._strip(client, obj, rest)
                    )

    async def definitions(self, client: Client) -> None:
        """Delete the definitions that `install` made."""
        for obj in await self._list(client, CRD, "", OURS):
            await self._delete(client, obj)

    async def namespace(self, client: Client) -> None:
        """Delete the namespace, if `install` made it."""
        try:
            obj = await client.get(_NAMESPACE, self._namespace)
        except NotFound:
            return
        if nested(obj, "metadata", "labels", meta.PART_OF_LABEL) != meta.PRODUCT:
            self._console.note(f"Namespace/{self._namespace} was not made by gitwright: it stays")
            return
        await self._delete(client, typed(_NAMESPACE, obj))

    async def _list(self, client: Client, gvk: GVK, namespace: str, labels: str) -> list[JSON]:
        try:
            return [typed(gvk, obj) for obj in (await client.list(gvk, namespace, labels=labels)).items]
        except NoKindMatch:
            return []
        except GitwrightError as error:
            self._failed(error)
            return []

    async def _delete(self, client: Client, obj: JSON, propagation: Propagation = "Background") -> None:
        key = key_of(obj)
        await self._try(
            f"{key.subject} deleted",
            client.delete(
                gvk_of(obj),
                key.name,
                key.namespace,
                propagation=propagation,
                uid=str(obj["metadata"]["uid"]),
                dry_run=self._plan.dry_run,
            ),
        )

    def _strip(self, client: Client, obj: JSON, rest: list[str]) -> Coroutine[Any, Any, JSON]:
        key = key_of(obj)
        # The version makes the server refuse when somebody else changed the list meanwhile.
        version = obj["metadata"]["resourceVersion"]
        body = {"metadata": {"finalizers": rest or None, "resourceVersion": version}}
        return client.patch(
            gvk_of(obj),
            key.name,
            key.namespace,
            body,
            kind="merge",
            field_manager=meta.INSTALL_MANAGER,
            dry_run=self._plan.dry_run,
        )

    async def _try(self, done: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except NotFound:
            return
        except GitwrightError as error:
            self._failed(error)
        else:
            self._console.success(done + self._plan.mark)

    def _failed(self, error: GitwrightError) -> None:
        self._console.error(error)
        self.worst = max(self.worst, exit_code(error), FAILED)


def component_kinds() -> list[tuple[GVK, bool]]:
    """Give the kinds of an installation's parts and whether each is namespaced, in the order of deletion.

    The namespace and the definitions are not parts: they hold what others may need.
    """
    found: dict[GVK, bool] = {}
    for lockdown in (False, True):
        parts = manifests.installation(
            image="any",
            namespace="any",
            version=__version__,
            lockdown=lockdown,
            artifact_key="",
        )
        for obj in sorted(parts, key=lambda obj: apply_rank(key_of(obj)), reverse=True):
            if gvk_of(obj) not in (_NAMESPACE, CRD):
                found[gvk_of(obj)] = bool(obj["metadata"].get("namespace"))
    return list(found.items())


def _is_free(obj: JSON | None) -> bool | None:
    return True if not nested(obj or {}, "spec", "holderIdentity") else None


def _held(obj: JSON) -> str:
    return f"held by {nested(obj, 'spec', 'holderIdentity')}"


def _is_gone(obj: JSON | None) -> bool | None:
    return True if obj is None else None


def _still_there(obj: JSON) -> str:
    replicas = nested(obj, "status", "replicas") or 0
    return f"{replicas} pods left"
