"""A cluster as a value: its name, its client, and its running informers.

Role in the flow: what reconcilers are handed to speak to a cluster, our own or a
remote one. It decides nothing; it shares informers and ends what it started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from gitwright.core.objects import GVK, JSON
from gitwright.kube.client import Client
from gitwright.kube.informer import Informer

P = TypeVar("P")
_Key = tuple[GVK, str, str, str, str]


@dataclass(slots=True)
class _Shared:
    informer: Informer[Any]
    task: asyncio.Task[None]
    users: int


class Cluster:
    """One cluster; `close` ends its informers and its client.

    Args:
        name: for messages; empty for the cluster we run in.
        client: speaks to it as the engine.
        page: objects per page of a list.
    """

    def __init__(self, name: str, client: Client, *, page: int = 100) -> None:
        self.name = name
        self.client = client
        self._page = page
        self._shared: dict[_Key, _Shared] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def informer(
        self,
        gvk: GVK,
        project: Callable[[JSON], P],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        view: str = "",
    ) -> Informer[P]:
        """Give a running informer; it is not waited for. Give it back by `release`.

        Who asks with the same kind, namespace, selectors and view gets the same one.

        Args:
            gvk: the kind.
            project: makes of an object what is kept; of several users the first one's counts.
            namespace: empty for all.
            labels: a label selector.
            fields: a field selector.
            view: names the projection, so that different ones are not mixed up.

        Raises:
            RuntimeError: the cluster is closed.
        """
        if self._closed:
            raise RuntimeError(f"cluster {self.name!r} is closed")
        key = (gvk, namespace, labels, fields, view)
        shared = self._shared.get(key)
        if shared is None:
            made = Informer(
                self.client,
                gvk,
                project=project,
                namespace=namespace,
                labels=labels,
                fields=fields,
                page=self._page,
            )
            task = asyncio.create_task(made.run(), name=f"informer {gvk.kind}")
            shared = self._shared[key] = _Shared(made, task, 0)
        shared.users += 1
        return cast("Informer[P]", shared.informer)

    async def release(self, informer: Informer[Any]) -> None:
        """Give an informer back; it ends with its last user."""
        for key, shared in self._shared.items():
            if shared.informer is informer:
                shared.users -= 1
                if shared.users <= 0:
                    del self._shared[key]
                    await _end(shared.task)
                return

    async def close(self) -> None:
        """End all informers, then the client."""
        self._closed = True
        tasks = [shared.task for shared in self._shared.values()]
        self._shared.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.close()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
