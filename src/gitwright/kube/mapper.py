"""Discovery: which kinds the server serves, and under which paths.

Role in the flow: `client` asks for the resource of every kind it touches. The first
question loads everything at once (aggregated discovery); a kind that is not known
then costs one small request for its group and version, so that a CRD made a moment
ago is found. It must not know objects.
Source: Kubernetes documentation "Aggregated discovery"; k8s.io/client-go discovery.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from gitwright.core.objects import GVK, JSON, GroupKind
from gitwright.kube.errors import ApiError, NoKindMatch, NotFound

_LIST = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
AGGREGATED = f"{_LIST.format('v2')},{_LIST.format('v2beta1')},application/json"
PLAIN = "application/json"

# Seconds for which "there is no such kind" is believed.
_NEGATIVE = 1.0
_MANY = 256
# Seconds for which a kind whose CRD was just written is asked for again and again:
# a server lists it in discovery a moment after it calls it established.
_EXPECTED = 5.0
_EXPECTED_PAUSE = 0.05

Fetch = Callable[[str, str], Awaitable[bytes]]
_GroupVersion = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Resource:
    """How a kind is served.

    Args:
        gvk: group, version and kind.
        plural: its name in paths, such as `deployments`.
        namespaced: whether its objects live in namespaces.
        verbs: what may be done, such as `get`, `list`, `watch`, `patch`.
        subresources: such as `status`, `scale`.
    """

    gvk: GVK
    plural: str
    namespaced: bool
    verbs: frozenset[str]
    subresources: frozenset[str]

    @property
    def qualified(self) -> str:
        """Plural and group as errors name them, such as `deployments.apps`."""
        return f"{self.plural}.{self.gvk.group}" if self.gvk.group else self.plural

    def collection(self, namespace: str = "") -> str:
        """Give the path of the objects of a namespace, or of all where it is empty."""
        base = _base(self.gvk.group, self.gvk.version)
        if self.namespaced and namespace:
            return f"{base}/namespaces/{_segment(namespace)}/{self.plural}"
        return f"{base}/{self.plural}"

    def path(self, name: str, namespace: str = "", subresource: str = "") -> str:
        """Give the path of one object; a namespace is ignored for cluster-scoped kinds.

        Raises:
            ApiError: the name is not one, or the namespace of a namespaced kind is missing.
        """
        if self.namespaced and not namespace:
            raise ApiError(
                "an empty namespace may not be set when a resource name is provided", api_reason="BadRequest"
            )
        path = f"{self.collection(namespace)}/{_segment(name)}"
        return f"{path}/{subresource}" if subresource else path


def _segment(name: str) -> str:
    # Source: k8s.io/apimachinery api/validation/path. Anything else could reach another path.
    if not name or name in (".", "..") or "/" in name or "%" in name:
        raise ApiError(f'invalid resource name "{name}"', api_reason="BadRequest")
    return quote(name, safe=":")


def _base(group: str, version: str) -> str:
    return f"/apis/{_segment(group)}/{_segment(version)}" if group else f"/api/{_segment(version)}"


class Mapper:
    """The kinds of one server.

    Args:
        fetch: gets a path with an Accept header and gives the body; raises `ApiError`.
        monotonic: seconds of a clock that never goes back.
        sleep: waits seconds.
    """

    def __init__(
        self,
        fetch: Fetch,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._sleep = sleep
        self._expected: dict[GVK, float] = {}
        self._kinds: dict[GVK, Resource] = {}
        self._loaded = False
        self._loading = asyncio.Lock()
        self._asking: dict[_GroupVersion, asyncio.Lock] = {}
        self._absent: dict[GVK, float] = {}
        self._waiting: dict[GVK, set[asyncio.Event]] = {}

    async def resource(self, gvk: GVK) -> Resource:
        """Find out how a kind is served.

        Raises:
            NoKindMatch: the server does not serve it.
            ApiError: discovery failed.
        """
        found = self._kinds.get(gvk)
        if found is None:
            if not gvk.version or not gvk.kind:
                raise NoKindMatch(gvk)
            await self._load()
            await self._ask(gvk)
            while gvk not in self._kinds and self._expected.get(gvk, 0.0) > self._monotonic():
                await self._sleep(_EXPECTED_PAUSE)
                self._absent.pop(gvk, None)
                await self._ask(gvk)
            found = self._kinds.get(gvk)
            if found is None:
                raise NoKindMatch(gvk)
        return found

    async def served(self, kind: GroupKind) -> GVK | None:
        """Find a version in which a kind is served, or None; for a kind whose version at hand is not.

        Raises:
            ApiError: discovery failed.
        """
        await self._load()
        if found := self._version_of(kind):
            return found
        try:
            path = f"/apis/{_segment(kind.group)}" if kind.group else "/api"
            answer = orjson.loads(await self._fetch(path, PLAIN))
        except NotFound:
            return None
        for item in answer.get("versions") or ():
            version = item["version"] if isinstance(item, dict) else item
            await self._ask(GVK(kind.group, str(version), kind.kind))
        return self._version_of(kind)

    def _version_of(self, kind: GroupKind) -> GVK | None:
        return next((gvk for gvk in self._kinds if gvk.group_kind == kind), None)

    def known(self, gvk: GVK) -> Resource | None:
        """Give what is known already, asking nobody."""
        return self._kinds.get(gvk)

    def forget(self, gvk: GVK | None = None) -> None:
        """Forget a kind's group and version, or everything; the next question asks the server."""
        if gvk is None:
            self._kinds.clear()
            self._loaded = False
        else:
            self._drop((gvk.group, gvk.version))
            self._absent.pop(gvk, None)

    def expect(self, crd: JSON) -> None:
        """Take note of a CustomResourceDefinition that was written: its kinds will be there in a moment."""
        spec = crd.get("spec") or {}
        kind = str((spec.get("names") or {}).get("kind") or "")
        now = self._monotonic()
        self._expected = {gvk: end for gvk, end in self._expected.items() if end > now}
        for version in spec.get("versions") or ():
            gvk = GVK(str(spec.get("group") or ""), str(version.get("name") or ""), kind)
            self._absent.pop(gvk, None)
            if version.get("served") and gvk not in self._kinds:
                self._expected[gvk] = now + _EXPECTED
                self._wake(gvk)

    async def appears(self, gvk: GVK, seconds: float) -> bool:
        """Wait until a kind is found by somebody, or its CRD written, at most `seconds`; tells whether."""
        event = asyncio.Event()
        self._waiting.setdefault(gvk, set()).add(event)
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            waiting = self._waiting.get(gvk, set())
            waiting.discard(event)
            if not waiting:
                self._waiting.pop(gvk, None)
        return True

    async def _load(self) -> None:
        async with self._loading:
            if self._loaded:
                return
            core, groups = await asyncio.gather(
                self._fetch("/api", AGGREGATED), self._fetch("/apis", AGGREGATED)
            )
            # A server without aggregated discovery answers with mere names; each group
            # version is then asked for when it is needed.
            for body in (core, groups):
                answer = orjson.loads(body)
                if answer.get("kind") == "APIGroupDiscoveryList":
                    self._learn(_aggregated(answer))
            self._loaded = True

    async def _ask(self, gvk: GVK) -> None:
        """Ask for one group and version, one question at a time."""
        place = (gvk.group, gvk.version)
        async with self._asking.setdefault(place, asyncio.Lock()):
            now = self._monotonic()
            if gvk in self._kinds or now - self._absent.get(gvk, -_NEGATIVE) < _NEGATIVE:
                return
            try:
                found = list(_plain(orjson.loads(await self._fetch(_base(*place), PLAIN)), place))
            except NotFound:
                found = []
            names = {resource.gvk for resource in found}
            for known in [known for known in self._kinds if (known.group, known.version) == place]:
                if known not in names:
                    del self._kinds[known]
            self._learn(found)
            if gvk not in self._kinds:
                now = self._monotonic()
                recent = {key: moment for key, moment in self._absent.items() if now - moment < _NEGATIVE}
                self._absent = {**recent, gvk: now}
        if len(self._asking) > _MANY:
            # Group versions named by users must not pile up.
            self._asking = {place: lock for place, lock in self._asking.items() if lock.locked()}

    def _learn(self, found: Iterable[Resource]) -> None:
        for resource in found:
            self._kinds[resource.gvk] = resource
            self._absent.pop(resource.gvk, None)
            self._expected.pop(resource.gvk, None)
            self._wake(resource.gvk)

    def _wake(self, gvk: GVK) -> None:
        for event in self._waiting.get(gvk, ()):
            event.set()

    def _drop(self, place: _GroupVersion) -> None:
        for known in [known for known in self._kinds if (known.group, known.version) == place]:
            del self._kinds[known]


def _aggregated(answer: Mapping[str, Any]) -> Iterator[Resource]:
    """Read an APIGroupDiscoveryList."""
    for group in answer.get("items") or ():
        group_name = str((group.get("metadata") or {}).get("name") or "")
        for version in group.get("versions") or ():
            place = (group_name, str(version.get("version") or ""))
            for item in version.get("resources") or ():
                kind = str((item.get("responseKind") or {}).get("kind") or "")
                if not kind:
                    continue
                yield Resource(
                    gvk=GVK(*place, kind),
                    plural=str(item["resource"]),
                    namespaced=item.get("scope") == "Namespaced",
                    verbs=frozenset(item.get("verbs") or ()),
                    subresources=frozenset(str(sub["subresource"]) for sub in item.get("subresources") or ()),
                )


def _plain(answer: Mapping[str, Any], place: _GroupVersion) -> Iterator[Resource]:
    """Read an APIResourceList; the names of subresources contain a slash."""
    items: list[JSON] = answer.get("resources") or []
    subresources: dict[str, set[str]] = {}
    for item in items:
        plural, slash, sub = str(item["name"]).partition("/")
        if slash:
            subresources.setdefault(plural, set()).add(sub)
    for item in items:
        plural = str(item["name"])
        if "/" in plural:
            continue
        yield Resource(
            gvk=GVK(*place, str(item["kind"])),
            plural=plural,
            namespaced=bool(item.get("namespaced")),
            verbs=frozenset(item.get("verbs") or ()),
            subresources=frozenset(subresources.get(plural, ())),
        )
