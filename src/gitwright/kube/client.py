"""The Kubernetes client: objects as plain dictionaries, one method per verb.

Role in the flow: everything that speaks to an API server goes through here, as the
engine or, by `impersonate`, as a tenant. It keeps no object. It must not know what
the objects mean. Source: Kubernetes documentation "API concepts", "Server-side apply".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import orjson

from gitwright.core.objects import GVK, JSON, gvk_of
from gitwright.kube import impersonation
from gitwright.kube.config import ConnectionConfig
from gitwright.kube.errors import ApiError, Gone, NotFound
from gitwright.kube.http import Observe, Request, Tools, Transport
from gitwright.kube.impersonation import Headers
from gitwright.kube.mapper import Mapper, Resource
from gitwright.kube.stream import WatchEvent, lines, watch_event

__all__ = ["Client", "ListPage", "ListResult", "WatchEvent"]

T = TypeVar("T")
Body = JSON | list[JSON]
Objects = list[JSON]
Validation = Literal["", "Ignore", "Warn", "Strict"]
PatchKind = Literal["merge", "json", "strategic"]
Propagation = Literal["Background", "Foreground", "Orphan"]

_PATCH_TYPES: Mapping[PatchKind, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
# Bytes of one page of a list: decoding more would hold up the event loop.
_PAGE_BYTES = 2 * 1024 * 1024
_LIST_TRIES = 3
# Seconds a silent watch may last beyond the time that was asked for.
_WATCH_GRACE = 30.0
# What a server says that has no such path, as against no such object.
_NO_PATH = "the server could not find the requested resource"


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list.

    Args:
        items: the objects, `apiVersion` and `kind` filled in.
        resource_version: of the whole list.
        more: whether another page follows.
    """

    items: Objects
    resource_version: str
    more: bool


@dataclass(frozen=True, slots=True)
class ListResult:
    """A whole list; a watch from `resource_version` goes on where it ends."""

    items: Objects
    resource_version: str


class Client:
    """A client of one API server; make it with `Client.open`.

    Attributes:
        mapper: discovery, shared by all identities.
        config: the connection.
    """

    def __init__(
        self, transport: Transport, mapper: Mapper, config: ConnectionConfig, headers: Headers, *, owner: bool
    ) -> None:
        self.mapper = mapper
        self.config = config
        self._transport = transport
        self._headers = headers
        self._owner = owner

    @classmethod
    async def open(
        cls,
        config: ConnectionConfig,
        *,
        user_agent: str = "gitwright",
        limit: int = 64,
        observe: Observe | None = None,
        tools: Tools | None = None,
    ) -> Client:
        """Make a client; nothing is sent yet.

        Args:
            config: the connection.
            user_agent: of every request.
            limit: requests at the same time; watches are not counted.
            observe: told of every answer: method, resource, code (0 for none), seconds.
            tools: time and chance, for tests.

        Raises:
            Denied: the configuration impersonates a blank user or group.
        """
        tools = tools or Tools()
        if observe is not None:
            tools = replace(tools, observe=observe)
        transport = Transport(config, user_agent, limit, tools)

        async def fetch(path: str, accept: str) -> bytes:
            return await transport.send(
                Request("GET", path, accept=accept, headers=transport.own_headers, resource="discovery")
            )

        return cls(
            transport, Mapper(fetch, tools.monotonic, tools.sleep), config, transport.own_headers, owner=True
        )

    async def close(self) -> None:
        """Close the connections; of an impersonating client, which borrows them, nothing."""
        if self._owner:
            await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def impersonate(self, user: str, groups: Sequence[str] = ()) -> Client:
        """Give a client that acts as somebody else over the same connections.

        Args:
            user: such as `system:serviceaccount:apps:deployer`.
            groups: such as `system:authenticated`.

        Raises:
            Denied: the user or a group is blank (spec/security.md S26).
        """
        headers = impersonation.headers(user, groups)
        return Client(self._transport, self.mapper, self.config, headers, owner=False)

    async def get(self, gvk: GVK, name: str, namespace: str = "") -> JSON:
        """Read one object.

        Raises:
            NotFound: it does not exist; `NoKindMatch` where not even its kind does.
            ApiError: refused otherwise.
        """
        return await self._named("GET", gvk, name, namespace)

    async def list(
        self, gvk: GVK, namespace: str = "", *, labels: str = "", fields: str = "", limit: int = 100
    ) -> ListResult:
        """Read all objects of a kind, page by page, beginning anew when the list expires half-way.

        Args:
            gvk: the kind.
            namespace: empty for all.
            labels: a label selector.
            fields: a field selector.
            limit: objects per page, at most.

        Raises:
            ApiError: refused.
        """
        tries = 0
        while True:
            tries += 1
            items: Objects = []
            version = ""
            try:
                async for page in self.pages(gvk, namespace, labels=labels, fields=fields, limit=limit):
                    items += page.items
                    version = page.resource_version
            except Gone:
                if tries >= _LIST_TRIES:
                    raise
                continue
            return ListResult(items, version)

    async def pages(
        self, gvk: GVK, namespace: str = "", *, labels: str = "", fields: str = "", limit: int = 100
    ) -> AsyncGenerator[ListPage, None]:
        """Read all objects of a kind and give page after page; arguments as for `list`.

        Pages of large objects get shorter as the list goes on.

        Raises:
            Gone: the list expired half-way; what was given is of no use.
            ApiError: refused.
        """
        token = ""
        while True:
            params = (
                ("labelSelector", labels),
                ("fieldSelector", fields),
                ("limit", str(limit)),
                ("continue", token),
            )

            async def ask(resource: Resource, params: tuple[tuple[str, str], ...] = params) -> bytes:
                request = Request("GET", resource.collection(namespace), params, headers=self._headers)
                return await self._transport.send(replace(request, resource=resource.qualified))

            body = await self._mapped(gvk, ask)
            page = orjson.loads(body)
            items: Objects = page.get("items") or []
            for item in items:
                # Lists of built-in kinds leave them out.
                item.setdefault("apiVersion", gvk.api_version)
                item.setdefault("kind", gvk.kind)
            metadata = page.get("metadata") or {}
            token = str(metadata.get("continue") or "")
            yield ListPage(items, str(metadata.get("resourceVersion") or ""), bool(token))
            if not token:
                return
            if len(body) > _PAGE_BYTES:
                limit = max(1, min(limit, len(items)) * _PAGE_BYTES // len(body))

    async def watch(
        self,
        gvk: GVK,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        bookmarks: bool = True,
        timeout_seconds: int = 300,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Follow the changes of a kind until the server ends the watch.

        Close the generator (`contextlib.aclosing`) to end it earlier.

        Args:
            gvk: the kind.
            namespace: empty for all.
            labels: a label selector.
            fields: a field selector.
            resource_version: where to begin; empty begins with what there is.
            bookmarks: ask for `BOOKMARK` events.
            timeout_seconds: the server ends the watch after this time.

        Raises:
            Gone: the resource version is too old; list again.
            ApiError: refused, or the connection broke.
        """
        resource = await self.mapper.resource(gvk)
        params = (
            ("watch", "1"),
            ("labelSelector", labels),
            ("fieldSelector", fields),
            ("resourceVersion", resource_version),
            ("allowWatchBookmarks", "true" if bookmarks else ""),
            ("timeoutSeconds", str(timeout_seconds)),
        )
        request = Request(
            "GET", resource.collection(namespace), params, headers=self._headers, resource=resource.qualified
        )
        pieces = self._transport.stream(request, timeout_seconds + _WATCH_GRACE)
        try:
            async for line in lines(pieces):
                event = watch_event(line)
                if event.type != "BOOKMARK":
                    event.object.setdefault("apiVersion", gvk.api_version)
                    event.object.setdefault("kind", gvk.kind)
                yield event
        except NotFound:
            self.mapper.forget(gvk)
            raise
        finally:
            await pieces.aclose()

    async def create(
        self, obj: JSON, *, field_manager: str, dry_run: bool = False, field_validation: Validation = ""
    ) -> JSON:
        """Create an object; it is sent at most once unless the server turned it away unread.

        Raises:
            AlreadyExists: there is one of this name.
            ApiError: refused otherwise.
        """
        gvk = gvk_of(obj)
        metadata = obj.get("metadata") or {}
        namespace = str(metadata.get("namespace") or "")
        params = _write_params(field_manager, dry_run=dry_run, field_validation=field_validation)

        async def ask(resource: Resource) -> bytes:
            if resource.namespaced and not namespace:
                raise ApiError("an empty namespace may not be set during creation", api_reason="BadRequest")
            request = Request(
                "POST",
                resource.collection(namespace),
                params,
                orjson.dumps(obj),
                headers=self._headers,
                idempotent=False,
                resource=resource.qualified,
                name=str(metadata.get("name") or ""),
            )
            return await self._transport.send(request)

        made = _object(await self._mapped(gvk, ask))
        return made if dry_run else self._noted(gvk, made)

    async def replace(
        self, obj: JSON, *, field_manager: str, subresource: str = "", dry_run: bool = False
    ) -> JSON:
        """Update an object as a whole; its resource version must still be the live one.

        Raises:
            Conflict: it changed since it was read.
            ApiError: refused otherwise.
        """
        metadata = obj.get("metadata") or {}
        return await self._named(
            "PUT",
            gvk_of(obj),
            str(metadata.get("name") or ""),
            str(metadata.get("namespace") or ""),
            subresource=subresource,
            params=_write_params(field_manager, dry_run=dry_run),
            body=orjson.dumps(obj),
            # A second PUT of the same version would meet a conflict that is its own.
            idempotent=False,
        )

    async def apply(
        self,
        body: bytes | JSON,
        gvk: GVK,
        name: str,
        namespace: str = "",
        *,
        field_manager: str,
        force: bool = True,
        dry_run: bool = False,
        subresource: str = "",
        field_validation: Validation = "",
    ) -> JSON:
        """Apply an object on the server's side and give what came of it.

        Args:
            body: the object; bytes are sent as they are.
            gvk: its kind.
            name: its name.
            namespace: its namespace; ignored for cluster-scoped kinds.
            field_manager: who owns the fields.
            force: take fields from other managers.
            dry_run: change nothing.
            subresource: such as `status`, or empty.
            field_validation: what to do about unknown fields; empty is the server's default.

        Raises:
            NoKindMatch: the server does not serve the kind.
            Invalid: the object breaks its schema or a rule.
            ApiError: refused otherwise.
        """
        params = _write_params(field_manager, dry_run=dry_run, field_validation=field_validation)
        made = await self._named(
            "PATCH",
            gvk,
            name,
            namespace,
            subresource=subresource,
            params=(*params, ("force", "true" if force else "")),
            body=body if isinstance(body, bytes) else orjson.dumps(body),
            content_type="application/apply-patch+yaml",
        )
        return made if dry_run else self._noted(gvk, made)

    async def patch(
        self,
        gvk: GVK,
        name: str,
        namespace: str,
        body: Body,
        *,
        kind: PatchKind,
        field_manager: str,
        subresource: str = "",
        dry_run: bool = False,
        field_validation: Validation = "",
    ) -> JSON:
        """Patch an object and give what came of it.

        Args:
            gvk: its kind.
            name: its name.
            namespace: its namespace; ignored for cluster-scoped kinds.
            body: a merge or strategic merge patch, or a list of JSON patch operations.
            kind: which of them it is.
            field_manager: who owns the fields.
            subresource: such as `status`, or empty.
            dry_run: change nothing.
            field_validation: what to do about unknown fields; empty is the server's default.

        Raises:
            NotFound: it does not exist.
            ApiError: refused otherwise.
        """
        return await self._named(
            "PATCH",
            gvk,
            name,
            namespace,
            subresource=subresource,
            params=_write_params(field_manager, dry_run=dry_run, field_validation=field_validation),
            body=orjson.dumps(body),
            content_type=_PATCH_TYPES[kind],
            # Operations such as adding to a list would be done twice.
            idempotent=kind == "merge",
        )

    async def delete(
        self,
        gvk: GVK,
        name: str,
        namespace: str = "",
        *,
        propagation: Propagation = "Background",
        uid: str = "",
        resource_version: str = "",
        dry_run: bool = False,
    ) -> None:
        """Delete an object; it may stay for a while when finalizers hold it.

        Args:
            gvk: its kind.
            name: its name.
            namespace: its namespace; ignored for cluster-scoped kinds.
            propagation: what becomes of its dependents.
            uid: delete only the object with this uid; empty for any.
            resource_version: delete only this version; empty for any.
            dry_run: change nothing.

        Raises:
            NotFound: it does not exist.
            Conflict: it is not the object, or not the version, that was meant.
            ApiError: refused otherwise.
        """
        conditions = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {key: value for key, value in conditions.items() if value}
        options: JSON = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if preconditions:
            options["preconditions"] = preconditions
        if dry_run:
            options["dryRun"] = ["All"]
        await self._named("DELETE", gvk, name, namespace, body=orjson.dumps(options))

    async def raw(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send any request and give the body of the answer.

        Args:
            method: the HTTP method; sent again after a fault only for GET and PUT.
            path: quoted path from the slash on.
            params: query parameters.
            body: the body.
            headers: `Accept` and `Content-Type` where they are not JSON, and others.

        Raises:
            ApiError: refused.
        """
        given = {name.lower(): value for name, value in (headers or {}).items()}
        request = Request(
            method,
            path,
            tuple((params or {}).items()),
            body,
            accept=given.pop("accept", "application/json"),
            content_type=given.pop("content-type", "application/json"),
            # The identity comes last: no caller can replace it.
            headers=(*(pair for pair in given.items() if not _identifies(pair[0])), *self._headers),
            idempotent=method in ("GET", "PUT"),
            resource="raw",
        )
        return await self._transport.send(request)

    async def version(self) -> JSON:
        """Give what the server says of its version, such as `gitVersion`."""
        return _object(await self.raw("GET", "/version"))

    async def _named(
        self,
        method: str,
        gvk: GVK,
        name: str,
        namespace: str,
        *,
        subresource: str = "",
        params: tuple[tuple[str, str], ...] = (),
        body: bytes | None = None,
        content_type: str = "application/json",
        idempotent: bool = True,
    ) -> JSON:
        async def ask(resource: Resource) -> bytes:
            request = Request(
                method,
                resource.path(name, namespace, subresource),
                params,
                body,
                content_type,
                headers=self._headers,
                idempotent=idempotent,
                resource=resource.qualified,
                name=name,
            )
            return await self._transport.send(request)

        return _object(await self._mapped(gvk, ask))

    def _noted(self, gvk: GVK, made: JSON) -> JSON:
        if gvk.kind == "CustomResourceDefinition" and gvk.group == "apiextensions.k8s.io":
            self.mapper.expect(made)
        return made

    async def _mapped(self, gvk: GVK, ask: Callable[[Resource], Awaitable[T]]) -> T:
        """Ask about a kind; where its path is gone, look once whether it is served elsewhere now."""
        resource = await self.mapper.resource(gvk)
        try:
            return await ask(resource)
        except NotFound as error:
            if not error.message.startswith(_NO_PATH):
                raise
            self.mapper.forget(gvk)
            again = await self.mapper.resource(gvk)
            if again == resource:
                raise
        return await ask(again)


def _write_params(
    field_manager: str, *, dry_run: bool, field_validation: Validation = ""
) -> tuple[tuple[str, str], ...]:
    return (
        ("fieldManager", field_manager),
        ("dryRun", "All" if dry_run else ""),
        ("fieldValidation", field_validation),
    )


def _identifies(header: str) -> bool:
    return header == "authorization" or header.startswith("impersonate-")


def _object(body: bytes) -> JSON:
    try:
        answer: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise ApiError("the server sent an answer that is not a JSON object")
    return answer
