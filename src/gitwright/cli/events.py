"""`gitwright events`: the Kubernetes Events of Flux's kinds, oldest first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import click

from gitwright.cli import kinds
from gitwright.cli.connect import changes, connected, typed
from gitwright.cli.failures import YES, Misuse
from gitwright.cli.kinds import nested, seconds_of
from gitwright.cli.options import Session, Verb, in_session, output_option
from gitwright.cli.output import Format, as_json, human_age, object_name, presentable, table
from gitwright.core.objects import GVK, JSON
from gitwright.formats import yaml
from gitwright.kube.client import Client
from gitwright.kube.errors import NotFound
from gitwright.kube.informer import Change

EVENT = GVK("", "v1", "Event")
_GROUPS = ".fluxcd.io"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events are asked for.

    Args:
        kind: kind of the objects, or empty for all of Flux's.
        name: name of the object, or empty for all.
        namespace: empty for all.
        types: `Normal` and `Warning`, or one of them.
    """

    kind: str
    name: str
    namespace: str
    types: tuple[str, ...]

    @property
    def fields(self) -> str:
        """The field selector that leaves the choice to the server."""
        parts = [("involvedObject.kind", self.kind), ("involvedObject.name", self.name)]
        return ",".join(f"{path}={value}" for path, value in parts if value)

    def wants(self, event: JSON) -> bool:
        """Tell whether an event is about an object of Flux's kinds and of a type asked for."""
        involved = event.get("involvedObject") or {}
        group = str(involved.get("apiVersion", "")).partition("/")[0]
        return (
            involved.get("kind") in kinds.EVENT_KINDS
            # Other projects have kinds of these names too; one without a group has the benefit of the doubt.
            and (not group or group.endswith(_GROUPS))
            and event.get("type") in self.types
        )


@click.command(cls=Verb, name="events", short_help="Show the events of objects.")
@click.option("--for", "target", default="", metavar="KIND[/NAME]", help="Events of one kind or object.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Events of all namespaces.")
@click.option("-w", "--watch", is_flag=True, help="After listing, show each new event.")
@click.option(
    "--types", "types", multiple=True, metavar="TYPE,...", help="Only Normal or only Warning events."
)
@click.option("--no-header", is_flag=True, help="Leave out the header line.")
@output_option("table", "wide", "json", "yaml", "name")
@in_session
def events(
    session: Session,
    target: str,
    all_namespaces: bool,
    watch: bool,
    types: tuple[str, ...],
    no_header: bool,
    output: Format,
) -> int:
    r"""Show the Kubernetes Events of Flux's kinds, oldest first.

    For one Kustomization, the events of its source are shown too.

    \b
    Examples:
      gitwright events
      gitwright events --for Kustomization/apps
      gitwright events -A --types Warning -w
    """
    kind, _, name = target.partition("/")
    choice = Choice(
        kind=kinds.event_kind(kind) if kind else "",
        name=name,
        namespace="" if all_namespaces else session.options.namespace,
        types=parse_types(types),
    )
    if target and not kind:
        raise Misuse("--for selector must be of format <kind>[/<name>]", place="--for")
    view = _View(session, output, header=not no_header, with_namespace=all_namespaces)
    return session.run(_events(session, choice, view, watch), limit=None if watch else 300.0)


def parse_types(given: Sequence[str]) -> tuple[str, ...]:
    """Read the values of `--types`, each one or several parted by commas; none means both.

    Raises:
        Misuse: a type is neither Normal nor Warning.
    """
    known = {"normal": "Normal", "warning": "Warning"}
    words = [word.strip() for value in given for word in value.split(",") if word.strip()]
    for word in words:
        if word.lower() not in known:
            raise Misuse(f"type '{word}' not supported. Supported types are Normal, Warning", place="--types")
    return tuple(dict.fromkeys(known[word.lower()] for word in words)) or ("Normal", "Warning")


async def _events(session: Session, choice: Choice, view: _View, watch: bool) -> int:
    async with connected(session) as client, AsyncExitStack() as stack:
        choices = [choice, *await _related(client, session, choice)]
        view.with_namespace |= any(other.namespace != choice.namespace for other in choices)
        found: list[JSON] = []
        for one in choices:
            result = await client.list(EVENT, one.namespace, fields=one.fields)
            found.extend(typed(EVENT, event) for event in result.items if one.wants(event))
        view.show(sorted(found, key=happened), streaming=watch)
        if not watch:
            if not found:
                where = f" in {choice.namespace} namespace" if choice.namespace else ""
                session.console.note(f"No events found{where}.")
            return YES
        queue: asyncio.Queue[Change[JSON] | None] = asyncio.Queue()
        for one in choices:
            await stack.enter_async_context(
                changes(client, EVENT, one.namespace, fields=one.fields, into=queue)
            )
        while True:
            change = await queue.get()
            if change is not None and change.new is not None and choice.wants(change.new):
                view.show([change.new], streaming=True)


async def _related(client: Client, session: Session, choice: Choice) -> list[Choice]:
    """Give the source of the one Kustomization that is asked for: its events belong to the story."""
    if choice.kind != kinds.KUSTOMIZATION.name or not choice.name:
        return []
    namespace = choice.namespace or session.options.namespace
    try:
        obj = await client.get(kinds.KUSTOMIZATION.gvk, choice.name, namespace)
    except NotFound:
        # Events outlive what they are about.
        return []
    kind, source_namespace, name = kinds.source_of(obj).split("/", 2)
    return [Choice(kind, name, source_namespace, choice.types)]


def happened(event: JSON) -> float:
    """Give the time an event was last seen, in seconds since the epoch; 0 when it says none."""
    for path in (("series", "lastObservedTime"), ("lastTimestamp",), ("eventTime",)):
        seconds = seconds_of(nested(event, *path)) if nested(event, *path) else None
        if seconds is not None:
            return seconds
    return 0.0


def last_seen(event: JSON, now: float) -> str:
    """Write when an event was seen, as kubectl does: `5s`, or `5s (x3 over 10m)`."""

    def since(*path: str) -> str:
        seconds = seconds_of(nested(event, *path)) if nested(event, *path) else None
        return "<unknown>" if seconds is None else human_age(now - seconds)

    first = since("eventTime") if event.get("eventTime") else since("firstTimestamp")
    if event.get("series"):
        return f"{since('series', 'lastObservedTime')} (x{event['series'].get('count', 1)} over {first})"
    if (event.get("count") or 0) > 1:
        return f"{since('lastTimestamp')} (x{event['count']} over {first})"
    return first


def headers(*, with_namespace: bool, wide: bool) -> list[str]:
    """Give the column names of the table of events."""
    named = ["NAMESPACE"] if with_namespace else []
    extra = ["SOURCE", "REVISION"] if wide else []
    return [*named, "LAST SEEN", "TYPE", "REASON", "OBJECT", *extra, "MESSAGE"]


def row(event: JSON, now: float, *, with_namespace: bool, wide: bool) -> list[str]:
    """Give the row of one event under `headers`."""
    involved = event.get("involvedObject") or {}
    named = [str(nested(event, "metadata", "namespace") or "")] if with_namespace else []
    source = str(event.get("reportingComponent") or nested(event, "source", "component") or "")
    extra = [source, _revision(event)] if wide else []
    return [
        *named,
        last_seen(event, now),
        str(event.get("type", "")),
        str(event.get("reason", "")),
        f"{involved.get('kind', '')}/{involved.get('name', '')}",
        *extra,
        str(event.get("message", "")).strip(),
    ]


def _revision(event: JSON) -> str:
    # Flux writes the revision under the group of the object's kind.
    annotations = nested(event, "metadata", "annotations") or {}
    return next((str(value) for key, value in annotations.items() if key.endswith("/revision")), "")


class _View:
    """Prints events in the chosen form.

    Args:
        session: whose console.
        output: the form.
        header: whether a table has a header line.
        with_namespace: whether a table shows the namespace.
    """

    def __init__(self, session: Session, output: Format, *, header: bool, with_namespace: bool) -> None:
        self.with_namespace = with_namespace
        self._console = session.console
        self._now = session.now
        self._output = output
        self._header = header
        self._widths: list[int] = []
        self._seen: dict[str, str] = {}

    def show(self, found: Iterable[JSON], *, streaming: bool) -> None:
        """Print events, each state of one once."""
        fresh = [event for event in found if self._is_new(event)]
        if self._output in ("table", "wide"):
            self._rows(fresh)
            return
        shown = [presentable(event) for event in fresh]
        if self._output == "name":
            for event in shown:
                self._console.data(object_name(event))
        elif not streaming:
            value = {"apiVersion": "v1", "kind": "List", "items": shown}
            self._console.data(as_json(value) if self._output == "json" else yaml.dump(value).rstrip("\n"))
        else:
            for event in shown:
                text = as_json(event, indent=None) if self._output == "json" else "---\n" + yaml.dump(event)
                self._console.data(text.rstrip("\n"))

    def _is_new(self, event: JSON) -> bool:
        uid, version = str(event["metadata"]["uid"]), str(event["metadata"]["resourceVersion"])
        is_new = self._seen.get(uid) != version
        self._seen[uid] = version
        return is_new

    def _rows(self, fresh: Sequence[JSON]) -> None:
        if not fresh:
            return
        wide = self._output == "wide"
        lines = table(
            headers(with_namespace=self.with_namespace, wide=wide),
            [row(event, self._now(), with_namespace=self.with_namespace, wide=wide) for event in fresh],
            widths=self._widths,
            colour=self._console.colour_out,
            show_header=self._header,
        )
        self._header = False
        for line in lines:
            self._console.data(line)
