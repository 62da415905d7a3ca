"""Leaves nothing behind: takes away what a test made, also when no engine runs any more.

Role: cleaning for fixtures and the player. Knows that Flux's kinds carry finalizers.
"""

from __future__ import annotations

import asyncio
import time

from tests.real.snapshots import CLUSTER_KINDS, KINDS, is_flux
from tests.realcluster.api import Api, ApiFailure

FLUX_KINDS = tuple(pair for pair in KINDS if is_flux(pair[0]))


async def scrub(api: Api, namespace: str, *, patience: float = 0.0) -> None:
    """Delete a namespace and what is in it; returns before Kubernetes has finished with it.

    Args:
        api: of an administrator.
        namespace: may be gone already.
        patience: seconds that an engine gets to finalize its objects; then their finalizers are removed.
    """
    end = time.monotonic() + patience
    for api_version, kind in FLUX_KINDS:
        for name in await _names(api, api_version, kind, namespace):
            await api.delete(api_version, kind, name, namespace)
    for api_version, kind in FLUX_KINDS:
        while names := await _names(api, api_version, kind, namespace):
            if time.monotonic() < end:
                await asyncio.sleep(0.2)
                continue
            for name in names:
                await _release(api, api_version, kind, name, namespace)
            await asyncio.sleep(0.05)
    await api.delete("v1", "Namespace", namespace)


async def wait_gone(api: Api, api_version: str, kind: str, name: str, patience: float = 60.0) -> None:
    """Wait until a cluster-scoped object is gone.

    Raises:
        TimeoutError: it is still there after `patience` seconds.
    """
    end = time.monotonic() + patience
    while await api.get(api_version, kind, name) is not None:
        if time.monotonic() > end:
            raise TimeoutError(f"{kind}/{name} is still there after {patience:g} s")
        await asyncio.sleep(0.2)


async def delete_cluster_scoped(api: Api, kind: str, name: str) -> None:
    """Delete a Namespace or a CustomResourceDefinition."""
    versions = {known: api_version for api_version, known in CLUSTER_KINDS}
    await api.delete(versions[kind], kind, name)


async def _names(api: Api, api_version: str, kind: str, namespace: str) -> list[str]:
    try:
        found = await api.list(api_version, kind, namespace)
    except LookupError:
        return []
    return [item["metadata"]["name"] for item in found]


async def _release(api: Api, api_version: str, kind: str, name: str, namespace: str) -> None:
    body = {"metadata": {"finalizers": None}}
    try:
        await api.patch(api_version, kind, name, namespace, body, manager="scrub")
        await api.delete(api_version, kind, name, namespace)
    except ApiFailure as failure:
        if failure.status != 404:
            raise
