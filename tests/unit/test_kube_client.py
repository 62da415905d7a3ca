"""The client's requests, discovery, lists, watches and errors, against real servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from gitwright.core.errors import Denied, Transient
from gitwright.core.objects import GVK
from gitwright.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NoKindMatch,
    NotFound,
    from_code,
    from_status,
)
from gitwright.kube.stream import lines
from tests.unit.kube_server import WIDGET, WIDGETS, Clock, client_of, serving, status

POD = GVK("", "v1", "Pod")
NODE = GVK("", "v1", "Node")


def discovery(*, aggregated: bool = True) -> dict[str, Any]:
    """Answers of discovery by path, for pods, nodes and widgets."""
    verbs = ["get", "list", "watch", "patch"]
    if not aggregated:
        return {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "groups": []},
            "/api/v1": {
                "resources": [
                    {"name": "pods", "kind": "Pod", "namespaced": True, "verbs": verbs},
                    {"name": "pods/status", "kind": "Pod", "namespaced": True, "verbs": ["patch"]},
                    {"name": "nodes", "kind": "Node", "namespaced": False, "verbs": verbs},
                ]
            },
            "/apis/x.example.com/v1": {
                "resources": [{"name": "widgets", "kind": "Widget", "namespaced": True, "verbs": verbs}]
            },
        }

    def entry(plural: str, kind: str, scope: str, *subresources: str) -> dict[str, Any]:
        subs = [{"subresource": name, "responseKind": {"kind": kind}} for name in subresources]
        return {
            "resource": plural,
            "responseKind": {"kind": kind},
            "scope": scope,
            "verbs": verbs,
            "subresources": subs,
        }

    core = [entry("pods", "Pod", "Namespaced", "status"), entry("nodes", "Node", "Cluster")]
    listed: dict[str, list[Any]] = {
        "/api": [{"metadata": {}, "versions": [{"version": "v1", "resources": core}]}],
        "/apis": [
            {
                "metadata": {"name": "x.example.com"},
                "versions": [{"version": "v1", "resources": [entry("widgets", "Widget", "Namespaced")]}],
            }
        ],
    }
    return {path: {"kind": "APIGroupDiscoveryList", "items": items} for path, items in listed.items()}


class Server:
    """Answers by path; `otherwise` is asked where discovery has no answer."""

    def __init__(self, *, aggregated: bool = True) -> None:
        self.known = discovery(aggregated=aggregated)
        self.seen: list[tuple[str, str]] = []
        self.requests: list[web.BaseRequest] = []
        self.bodies: list[bytes] = []
        self.delay = 0.0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        self.requests.append(request)
        self.bodies.append(await request.read())
        await asyncio.sleep(self.delay)
        if request.path in self.known:
            return web.json_response(self.known[request.path])
        return await self.otherwise(request)

    async def otherwise(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/api"):
            return web.Response(text="404 page not found\n", status=404)
        return web.json_response({})

    @property
    def paths(self) -> list[str]:
        return [path for _, path in self.seen]


@pytest.mark.parametrize("aggregated", [True, False])
async def test_discovery_is_asked_once_and_tells_all(aggregated: bool) -> None:
    """Kinds are mapped with plural, scope and subresources, aggregated or not, and asked for once."""
    server = Server(aggregated=aggregated)
    async with serving(server) as url, client_of(url) as client:
        pods = await client.mapper.resource(POD)
        node, _, _ = await asyncio.gather(*(client.mapper.resource(gvk) for gvk in (NODE, WIDGET, POD)))
    assert (pods.plural, pods.namespaced, pods.subresources) == ("pods", True, frozenset({"status"}))
    assert not node.namespaced
    assert pods.path("a", "ns", "status") == "/api/v1/namespaces/ns/pods/a/status"
    assert node.path("n", "ignored") == "/api/v1/nodes/n"
    more = [] if aggregated else ["/api/v1", "/apis/x.example.com/v1"]
    assert sorted(server.paths) == sorted(["/api", "/apis", *more])
    accept = server.requests[0].headers["Accept"]
    assert accept.startswith("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,")


async def test_a_new_kind_costs_one_question_and_a_missing_one_one_per_second() -> None:
    """Concurrent misses ask once; "there is none" is believed for a second; then the kind is found."""
    server, clock = Server(), Clock()
    server.delay = 0.01
    gvk = GVK("new.example.com", "v1", "Thing")
    async with serving(server) as url, client_of(url, clock) as client:
        answers = await asyncio.gather(
            *(client.mapper.resource(gvk) for _ in range(20)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {NoKindMatch}
        assert str(answers[0]) == 'no matches for kind "Thing" in version "new.example.com/v1"'
        assert server.paths.count("/apis/new.example.com/v1") == 1
        clock.seconds += 1.1
        item = {"name": "things", "kind": "Thing", "namespaced": False, "verbs": []}
        server.known["/apis/new.example.com/v1"] = {"resources": [item]}
        assert (await client.mapper.resource(gvk)).plural == "things"
        assert server.paths.count("/apis/new.example.com/v1") == 2
        assert server.paths.count("/apis") == 1


async def test_a_failing_discovery_is_not_a_missing_kind() -> None:
    """When a group cannot be asked, the error is the server's and not NoKindMatch."""
    server = Server()

    async def unavailable(request: web.BaseRequest) -> web.StreamResponse:
        return status(503, "ServiceUnavailable", "the server is currently unable to handle the request")

    server.otherwise = unavailable  # type: ignore[method-assign]
    async with serving(server) as url, client_of(url, Clock()) as client:
        with pytest.raises(Transient) as refused:
            await client.get(GVK("metrics.k8s.io", "v1", "NodeMetrics"), "n")
    assert not isinstance(refused.value, NotFound)


async def test_a_path_that_is_gone_is_looked_for_once_more() -> None:
    """A 404 of the path itself makes the kind unknown; a 404 of an object does not."""
    server = Server()
    async with serving(server) as url, client_of(url) as client:
        await client.mapper.resource(WIDGET)
        with pytest.raises(NoKindMatch):
            await client.get(WIDGET, "a", "ns")
        assert client.mapper.known(WIDGET) is None

        async def absent(request: web.BaseRequest) -> web.StreamResponse:
            return status(404, "NotFound", 'pods "a" not found', details={"name": "a"})

        server.otherwise = absent  # type: ignore[method-assign]
        with pytest.raises(NotFound, match=r'^pods "a" not found$') as refused:
            await client.get(POD, "a", "ns")
        assert type(refused.value) is NotFound
        assert client.mapper.known(POD) is not None


async def test_an_apply_sends_bytes_untouched_with_its_parameters() -> None:
    """Server-side apply patches the object's path with the given bytes, manager, force and dry run."""
    server = Server()
    path = "/apis/x.example.com/v1/namespaces/ns/widgets/a:b"
    server.known[path] = {"kind": "Widget"}
    async with serving(server) as url, client_of(url) as client:
        body = b'{"b": 1,   "a":2}'
        await client.apply(
            body, WIDGET, "a:b", "ns", field_manager="m", dry_run=True, field_validation="Warn"
        )
        await client.apply({"a": 1}, WIDGET, "a:b", "ns", field_manager="m", force=False)
    first, second = server.requests[-2:]
    assert server.seen[-1] == ("PATCH", path)
    assert server.bodies[-2:] == [body, b'{"a":1}']
    assert dict(first.query) == {
        "fieldManager": "m",
        "dryRun": "All",
        "force": "true",
        "fieldValidation": "Warn",
    }
    assert dict(second.query) == {"fieldManager": "m"}
    assert first.headers["Content-Type"] == "application/apply-patch+yaml"
    assert first.headers["Accept"] == "application/json"


@pytest.mark.parametrize(
    ("name", "namespace"),
    [("..", "ns"), ("a/b", "ns"), ("", "ns"), ("a%2fb", "ns"), ("a", "../x"), ("a", "")],
)
async def test_a_name_cannot_reach_another_path(name: str, namespace: str) -> None:
    """Names that are no path segment, and a missing namespace, are refused before anything is sent."""
    server = Server()
    async with serving(server) as url, client_of(url) as client:
        await client.mapper.resource(POD)
        before = len(server.seen)
        with pytest.raises(ApiError):
            await client.delete(POD, name, namespace)
        assert len(server.seen) == before


async def test_impersonation_is_on_every_request_and_cannot_be_replaced() -> None:
    """A tenant's client names the tenant each time; discovery stays ours; raw headers change nothing."""
    server = Server()
    server.known["/api/v1/namespaces/ns/pods/a"] = {"kind": "Pod"}
    async with serving(server) as url, client_of(url, token="t") as client:
        tenant = client.impersonate("jane", ("dev",))
        await tenant.get(POD, "a", "ns")
        await tenant.raw("GET", "/version", headers={"Impersonate-User": "root", "X-Other": "1"})
        await tenant.close()
        await client.get(POD, "a", "ns")
        with pytest.raises(Denied):
            tenant.impersonate("")
    users = [request.headers.get("Impersonate-User", "") for request in server.requests]
    assert users == ["", "", "jane", "jane", ""]
    assert server.requests[3].headers["X-Other"] == "1"
    assert all(request.headers["Authorization"] == "Bearer t" for request in server.requests)


class Listing(Server):
    """A list of three pages whose continue token expires as often as wished."""

    def __init__(self, expiries: int) -> None:
        super().__init__()
        self.expiries = expiries
        self.limits: list[str] = []
        self.size = 1

    async def otherwise(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.path == WIDGETS
        self.limits.append(request.query["limit"])
        page = int(request.query.get("continue", "0"))
        if page == 2 and self.expiries:
            self.expiries -= 1
            return status(410, "Expired", "The provided continue parameter is too old")
        items = [{"metadata": {"name": f"{page}-{number}"}, "pad": "x" * self.size} for number in range(2)]
        metadata = {"resourceVersion": "7", "continue": "" if page == 2 else str(page + 1)}
        return web.json_response({"kind": "WidgetList", "metadata": metadata, "items": items})


async def test_a_list_that_expires_is_begun_anew() -> None:
    """A 410 on a continue token gives the whole list from a new start, a few times."""
    server = Listing(expiries=2)
    async with serving(server) as url, client_of(url) as client:
        found = await client.list(WIDGET, limit=2)
        names = [item["metadata"]["name"] for item in found.items]
        assert names == [f"{page}-{number}" for page in range(3) for number in range(2)]
        assert found.resource_version == "7"
        server.expiries = 99
        with pytest.raises(Gone):
            await client.list(WIDGET, limit=2)
        assert server.expiries >= 90


async def test_pages_of_large_objects_get_shorter() -> None:
    """When a page is larger than can be decoded at once, the next ones ask for fewer objects."""
    server = Listing(expiries=0)
    server.size = 2_500_000
    async with serving(server) as url, client_of(url) as client:
        found = await client.list(WIDGET, limit=100)
    assert len(found.items) == 6
    assert server.limits == ["100", "1", "1"]


@given(st.binary(max_size=60), st.lists(st.integers(1, 9), max_size=30))
def test_lines_do_not_depend_on_how_a_stream_is_cut(text: bytes, cuts: list[int]) -> None:
    """Wherever the pieces of a stream end, its lines are the same."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        rest = text
        for cut in cuts:
            yield rest[:cut]
            rest = rest[cut:]
        yield rest

    async def collect() -> list[bytes]:
        return [line async for line in lines(pieces())]

    assert asyncio.run(collect()) == [line for line in text.split(b"\n")[:-1] if line]


class Watching(Server):
    def __init__(self, *sent: bytes) -> None:
        super().__init__()
        self.sent = sent

    async def otherwise(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in self.sent:
            await response.write(piece)
        return response


def event(type_: str, **obj: Any) -> bytes:
    return orjson.dumps({"type": type_, "object": obj}) + b"\n"


async def test_a_watch_gives_events_of_any_length_and_ends_with_the_stream() -> None:
    """Events come in order, also one of many pieces, with their kind; the stream's end ends the watch."""
    large = event("MODIFIED", metadata={"name": "a"}, pad="x" * 3_000_000)
    server = Watching(
        event("ADDED", metadata={"name": "a"}), large, event("BOOKMARK", metadata={"resourceVersion": "9"})
    )
    async with serving(server) as url, client_of(url) as client:
        found = [item async for item in client.watch(WIDGET, resource_version="5", labels="a=b,c!=d")]
    assert [item.type for item in found] == ["ADDED", "MODIFIED", "BOOKMARK"]
    assert found[1].object["kind"] == "Widget"
    assert len(found[1].object["pad"]) == 3_000_000
    query = server.requests[-1].query
    assert (query["resourceVersion"], query["labelSelector"], query["allowWatchBookmarks"]) == (
        "5",
        "a=b,c!=d",
        "true",
    )


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (event("ERROR", kind="Status", code=410, reason="Expired", message="too old"), Gone),
        (event("ERROR", kind="Status", code=500, reason="InternalError", message="etcd"), Transient),
        (b"not json\n", ApiError),
        (b'{"type":"ADDED"}\n', ApiError),
    ],
)
async def test_an_error_in_a_watch_is_raised(sent: bytes, error: type[Exception]) -> None:
    """An ERROR event raises what its Status says, and an unreadable line is an error too."""
    async with (
        serving(Watching(sent)) as url,
        client_of(url) as client,
        aclosing(client.watch(WIDGET)) as events,
    ):
        with pytest.raises(error):
            await anext(events)


def test_a_status_becomes_its_error_verbatim() -> None:
    """Message, reason, causes with fields and waiting time of a Status object are kept."""
    causes = [{"field": "spec.x", "message": "Required value", "reason": "FieldValueRequired"}]
    body = {"code": 422, "reason": "Invalid", "message": "Widget is invalid", "details": {"causes": causes}}
    refused = from_status(body)
    assert isinstance(refused, Invalid)
    assert str(refused) == "Widget is invalid"
    assert (refused.status, refused.api_reason) == (422, "Invalid")
    cause = refused.causes[0]
    assert (cause.field, cause.message, cause.reason) == ("spec.x", "Required value", "FieldValueRequired")
    assert from_status({"code": 429, "details": {"retryAfterSeconds": 3}}).retry_after == 3.0
    assert isinstance(from_status({"code": 403, "message": "no"}), (Forbidden, Denied))


@pytest.mark.parametrize(
    ("code", "reason", "message", "immutable"),
    [
        (409, "Conflict", "the object has been modified", True),
        (409, "AlreadyExists", "already exists", False),
        (422, "Invalid", "anything", True),
        (400, "BadRequest", "admission webhook: field is immutable after creation", True),
        (403, "Forbidden", "cannot change immutable field x", True),
        (500, "InternalError", "etcd is down", False),
    ],
)
def test_immutable_is_what_flux_takes_for_it(code: int, reason: str, message: str, immutable: bool) -> None:
    """Conflict, Invalid and the two wordings count as a change of an immutable field."""
    refused = from_status({"code": code, "reason": reason, "message": message})
    assert refused.is_immutable is immutable


def test_an_answer_without_a_status_is_worded_as_client_go_does() -> None:
    """Codes alone give client-go's sentences and never any of the body."""
    assert str(from_code(404, "GET", "widgets.x.example.com", "a")) == (
        "the server could not find the requested resource (get widgets.x.example.com a)"
    )
    assert isinstance(from_code(409, "POST"), AlreadyExists)
    assert isinstance(from_code(409, "PUT"), Conflict)
    assert "status code 418" in str(from_code(418, "GET"))
    assert isinstance(from_code(502, "GET"), Transient)
