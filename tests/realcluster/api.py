"""A plain Kubernetes client for tests, independent of the one that is tested.

Role: what a test does to, and sees of, a cluster when kubectl would be too slow: many
requests at once, watches, other field managers. Retries only what the server asks to come
back with (429). Knows no GitOps.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import aiohttp

JSON = dict[str, Any]
_PATIENCE = 15

_PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


class ApiFailure(Exception):
    """The API server refused; `status` is the HTTP code, `reason` that of the Status object."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: {status} {body[:600]}")
        self.status = status
        self.reason = ""
        if body.startswith("{"):
            self.reason = str(json.loads(body).get("reason", ""))


class Api:
    """One user's access to one API server; an async context manager.

    Args:
        server: its URL.
        token: bearer token, or empty.
        ca: file of the authority that signed its certificate; None for plain HTTP.
    """

    def __init__(self, server: str, token: str = "", ca: Path | None = None) -> None:
        self.server = server
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(ca)) if ca else True
        self._session: aiohttp.ClientSession | None = None
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    async def __aenter__(self) -> Api:
        self._session = aiohttp.ClientSession(
            self.server,
            headers=self._headers,
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=100),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use `async with Api(...)`")
        return self._session

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        """Send one request and give the decoded answer.

        Raises:
            ApiFailure: an answer of 400 or more.
        """
        data = None if body is None else json.dumps(body).encode()
        for _ in range(_PATIENCE):
            status, text = await self._send(method, path, dict(params or {}), data, content_type)
            if status != 429:
                break
            await asyncio.sleep(1)  # the storage of a kind is being set up
        if status >= 400:
            raise ApiFailure(method, path, status, text)
        return json.loads(text) if text.startswith(("{", "[")) else text

    async def _send(
        self, method: str, path: str, params: dict[str, str], data: bytes | None, content_type: str
    ) -> tuple[int, str]:
        headers = {"Content-Type": content_type} if data is not None else {}
        limit = aiohttp.ClientTimeout(total=60)
        async with self._http.request(
            method, path, params=params, data=data, headers=headers, timeout=limit
        ) as response:
            return response.status, await response.text()

    async def resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        """Give the plural name of a kind and whether it lives in namespaces; learns new kinds.

        Raises:
            LookupError: the server has no such kind.
        """
        known = self._resources.get((api_version, kind))
        if known is None:
            try:
                found = await self.request("GET", _group_path(api_version))
            except ApiFailure as failure:
                if failure.status != 404:
                    raise
                found = {"resources": []}
            for item in found["resources"]:
                if "/" not in item["name"]:
                    self._resources[api_version, item["kind"]] = (item["name"], item["namespaced"])
            known = self._resources.get((api_version, kind))
        if known is None:
            raise LookupError(f"no kind {kind} in {api_version}")
        return known

    async def path(self, api_version: str, kind: str, namespace: str = "", name: str = "") -> str:
        """Give the URL path of an object, or of a collection when `name` is empty."""
        plural, namespaced = await self.resource(api_version, kind)
        inside = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{_group_path(api_version)}{inside}/{plural}" + (f"/{name}" if name else "")

    async def get(self, api_version: str, kind: str, name: str, namespace: str = "") -> JSON | None:
        """Read an object; None when it does not exist."""
        try:
            found: JSON = await self.request("GET", await self.path(api_version, kind, namespace, name))
        except ApiFailure as failure:
            if failure.status == 404:
                return None
            raise
        return found

    async def list(self, api_version: str, kind: str, namespace: str = "", labels: str = "") -> list[JSON]:
        """Read all objects of a kind, with apiVersion and kind set on each."""
        params = {"labelSelector": labels} if labels else {}
        found = await self.request("GET", await self.path(api_version, kind, namespace), params=params)
        return [{"apiVersion": api_version, "kind": kind} | item for item in found["items"]]

    async def apply(self, obj: JSON, *, manager: str, force: bool = True) -> JSON:
        """Apply an object on the server's side."""
        meta = obj["metadata"]
        path = await self.path(obj["apiVersion"], obj["kind"], meta.get("namespace", ""), meta["name"])
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        done: JSON = await self.request(
            "PATCH", path, params=params, body=obj, content_type=_PATCHES["apply"]
        )
        return done

    async def patch(
        self,
        api_version: str,
        kind: str,
        name: str,
        namespace: str,
        body: Any,
        *,
        manager: str = "user",
        how: Literal["merge", "json", "strategic", "apply"] = "merge",
        subresource: str = "",
    ) -> JSON:
        """Patch an object or a subresource of it."""
        path = await self.path(api_version, kind, namespace, name) + (
            f"/{subresource}" if subresource else ""
        )
        params = {"fieldManager": manager} | ({"force": "true"} if how == "apply" else {})
        done: JSON = await self.request("PATCH", path, params=params, body=body, content_type=_PATCHES[how])
        return done

    async def delete(
        self, api_version: str, kind: str, name: str, namespace: str = "", *, grace: int | None = None
    ) -> bool:
        """Delete an object in the background; tell whether it was there."""
        path = await self.path(api_version, kind, namespace, name)
        params = {"propagationPolicy": "Background"}
        if grace is not None:
            params["gracePeriodSeconds"] = str(grace)
        try:
            await self.request("DELETE", path, params=params)
        except ApiFailure as failure:
            if failure.status == 404:
                return False
            raise
        return True

    async def watch(
        self, api_version: str, kind: str, namespace: str = "", resource_version: str = "", seconds: int = 300
    ) -> AsyncIterator[JSON]:
        """Yield watch events (type, object) until the server ends the watch.

        Args:
            api_version: of the kind.
            kind: what to watch.
            namespace: empty for all.
            resource_version: start after this one; empty begins with what exists.
            seconds: how long the server keeps it open.

        Raises:
            ApiFailure: the watch was refused.
        """
        params = {"watch": "1", "timeoutSeconds": str(seconds)}
        if resource_version:
            params["resourceVersion"] = resource_version
        path = await self.path(api_version, kind, namespace)
        async with self._http.get(path, params=params) as response:
            if response.status >= 400:
                raise ApiFailure("WATCH", path, response.status, await response.text())
            buffer = b""
            async for chunk in response.content.iter_any():
                buffer += chunk
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    yield json.loads(line)


def _group_path(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
