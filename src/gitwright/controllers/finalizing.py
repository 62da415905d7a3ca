"""The end of a Kustomization: its objects are deleted as the policy says, then it is let go.

Role in the flow: runs instead of a pass once the object is being deleted.
Source: spec/flux-v2.md 3.3, last paragraph of Inventory/GC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from gitwright.api import meta
from gitwright.api.kustomize import Kustomization
from gitwright.apply.inventory import Inventory
from gitwright.apply.plan import Change
from gitwright.apply.wait import wait_gone, watched_by_name
from gitwright.controllers import conclude as outcome
from gitwright.controllers.crew import KIND, Crew, Pass
from gitwright.core import conditions
from gitwright.core.errors import Transient
from gitwright.core.objects import GVK
from gitwright.notify.events import Note
from gitwright.runtime.controller import Slot


class Finalizer:
    """Ends Kustomizations.

    Args:
        crew: the shared tools.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    async def finalize(self, now: Pass, slot: Slot) -> None:
        """Delete what was applied, as the deletion policy says, and let the object go.

        Source: spec/flux-v2.md 3.3, last paragraph of Inventory/GC.
        """
        now.silent = True
        if not now.typed.finalized:
            return
        inventory = Inventory.read(now.obj.get("status") or {})
        if now.typed.deletes and not now.typed.suspended and inventory.versions:
            await self._delete_all(now, inventory, slot)
        self._crew.estate.forget(now.owner)
        await self._crew.desk.remove_finalizer(KIND, now.obj, meta.STATUS_MANAGER)

    async def _delete_all(self, now: Pass, inventory: Inventory, slot: Slot) -> None:
        found = (now.obj.get("status") or {}).get("conditions") or []
        reason = str((conditions.get(found, conditions.READY) or {}).get("reason") or "info")
        now.run = replace(
            now.run, revision=str((now.obj.get("status") or {}).get("lastAppliedRevision") or "")
        )
        about = outcome.annotations_of(now.run)
        rights = self._crew.rights(now.typed)
        if not await self._account_exists(now.typed):
            names = "\n".join(key.subject for key in inventory.versions)
            text = f"unable to prune objects: \n{names}\nthe service account to act as is gone; they are left"
            self._crew.desk.tell(now.obj, Note("Warning", reason, text, about))
            return
        self._crew.estate.forget(now.owner)
        changes, _, errors = await self._crew.engine.prune(inventory.stale(()), inventory, rights)
        lines = [change.line for change in changes]
        if errors:
            text = "pruning for deleted resource failed\n" + "\n".join(errors)
            self._crew.desk.tell(now.obj, Note("Warning", reason, text, about))
            raise Transient(f"delete failed, errors: {';'.join(errors)};", reason="PruneFailed")
        if lines:
            self._crew.desk.tell(now.obj, Note("Normal", reason, "\n".join(lines), about))
        if now.typed.deletion_policy == "WaitForTermination":
            await self._wait_gone(now, [change for change in changes if change.action == "deleted"], slot)

    async def _account_exists(self, typed: Kustomization) -> bool:
        account = typed.spec.service_account_name or self._crew.options.default_service_account
        if not account:
            return True
        # By a list, because under lockdown the engine may watch accounts and get none.
        found = await self._crew.estate.cluster.client.list(
            GVK("", "v1", "ServiceAccount"), typed.namespace, fields=f"metadata.name={account}"
        )
        return bool(found.items)

    async def _wait_gone(self, now: Pass, changes: Sequence[Change], slot: Slot) -> None:
        targets = [(GVK(c.key.group, c.version, c.key.kind), c.key) for c in changes]
        named = await watched_by_name(self._crew.estate, targets)
        try:
            async with slot.released(), asyncio.timeout(now.run.timeout):
                for key, informer in named.items():
                    await informer.synced()
                    await wait_gone(informer, key)
        except TimeoutError:
            text = "failed to wait for resources termination"
            self._crew.desk.tell(
                now.obj, Note("Warning", "Progressing", text, outcome.annotations_of(now.run))
            )
        finally:
            for informer in named.values():
                await self._crew.estate.cluster.release(informer)
