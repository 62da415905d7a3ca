"""`gitwright get`: objects and their state, as a table or as they are, once or as they change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import click

from gitwright.cli import kinds
from gitwright.cli.connect import changes, connected, typed
from gitwright.cli.failures import YES
from gitwright.cli.kinds import Kind, StatusSelector, Target
from gitwright.cli.options import Session, Verb, in_session, output_option
from gitwright.cli.output import Format, as_json, object_name, presentable, table
from gitwright.core.objects import JSON
from gitwright.formats import yaml
from gitwright.kube.client import Client
from gitwright.kube.errors import NoKindMatch
from gitwright.kube.informer import Change


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for and how it is shown.

    Args:
        target: kinds and names.
        namespace: empty for all namespaces.
        labels: a label selector.
        selector: a choice by condition, or None.
        output: the form of the result.
        header: whether tables have a header line.
        with_source: whether tables show the source of Kustomizations.
    """

    target: Target
    namespace: str
    labels: str = ""
    selector: StatusSelector | None = None
    output: Format = "table"
    header: bool = True
    with_source: bool = False

    @property
    def with_namespace(self) -> bool:
        """Whether tables show the namespace."""
        return not self.namespace

    def headers(self, kind: Kind) -> list[str]:
        """Give the column names of a kind."""
        return kinds.headers(
            kind,
            with_namespace=self.with_namespace,
            wide=self.output == "wide",
            with_source=self.with_source,
        )

    def row(self, kind: Kind, obj: JSON, now: float) -> list[str]:
        """Give the row of an object."""
        return kinds.row(
            kind,
            obj,
            now,
            with_namespace=self.with_namespace,
            wide=self.output == "wide",
            with_source=self.with_source,
            with_kind=self.target.everything,
        )

    def wants(self, obj: JSON) -> bool:
        """Tell whether an object that the server gave is one of those asked for."""
        if self.target.names and obj["metadata"]["name"] not in self.target.names:
            return False
        return self.selector is None or self.selector.matches(obj)

    @property
    def fields(self) -> str:
        """The field selector that leaves the choice of a single name to the server."""
        return f"metadata.name={self.target.names[0]}" if len(self.target.names) == 1 else ""


@click.command(cls=Verb, name="get", short_help="Show objects and their state.")
@click.argument("what", nargs=-1, metavar="KIND [NAME]...")
@click.option("-A", "--all-namespaces", is_flag=True, help="Objects of all namespaces.")
@click.option("-l", "--label-selector", "labels", default="", metavar="SELECTOR", help="Choose by labels.")
@click.option(
    "--status-selector",
    "selector",
    default="",
    metavar="TYPE=STATUS",
    help="Choose by a condition, such as ready=false or ready!=true.",
)
@click.option("-w", "--watch", is_flag=True, help="After listing, show each change.")
@click.option("--no-header", is_flag=True, help="Leave out the header line.")
@click.option("--show-source", is_flag=True, help="Show the source of each Kustomization.")
@output_option("table", "wide", "json", "yaml", "name")
@in_session
def get(
    session: Session,
    what: tuple[str, ...],
    all_namespaces: bool,
    labels: str,
    selector: str,
    watch: bool,
    no_header: bool,
    show_source: bool,
    output: Format,
) -> int:
    r"""Show objects and their state.

    KIND is kustomizations (ks), sources git (gitrepositories, gitrepo), sources
    all, or all.

    \b
    Examples:
      gitwright get kustomizations
      gitwright get sources git -A -o wide
      gitwright get ks apps -o yaml
      gitwright get all -A --status-selector ready=false
      gitwright get ks -w
    """
    query = Query(
        target=kinds.parse(what, allow_all=True),
        namespace="" if all_namespaces else session.options.namespace,
        labels=labels,
        selector=StatusSelector.parse(selector) if selector else None,
        output=output,
        header=not no_header,
        with_source=show_source,
    )
    if watch:
        return session.run(_watch(session, query), limit=None)
    return session.run(_show(session, query))


async def _show(session: Session, query: Query) -> int:
    async with connected(session) as client:
        found = [(kind, objects) for kind, objects in await _lists(client, query) if objects]
    names = {obj["metadata"]["name"] for _kind, objects in found for obj in objects}
    missing = tuple(name for name in query.target.names if name not in names)
    if missing or not found:
        session.console.note(nothing(query, missing))
    if query.output in ("table", "wide"):
        _show_tables(session, query, found)
    else:
        _show_objects(session, query, [obj for _kind, objects in found for obj in objects])
    return YES


async def _lists(client: Client, query: Query) -> list[tuple[Kind, list[JSON]]]:
    found = []
    for kind in query.target.kinds:
        try:
            result = await client.list(kind.gvk, query.namespace, labels=query.labels, fields=query.fields)
        except NoKindMatch:
            if query.target.everything:
                continue
            raise
        objects = [typed(kind.gvk, obj) for obj in result.items if query.wants(obj)]
        found.append((kind, sorted(objects, key=_order)))
    return found


def _order(obj: JSON) -> tuple[str, str]:
    return (str(obj["metadata"].get("namespace", "")), str(obj["metadata"]["name"]))


def nothing(query: Query, missing: tuple[str, ...]) -> str:
    """Say that nothing was found, or which of the names were not, in Flux's words."""
    where = f'"{query.namespace}" namespace' if query.namespace else "any namespace"
    if query.target.everything:
        return f"no objects found in {where}"
    kind = query.target.kinds[0].gvk.kind
    if missing:
        names = ", ".join(f"'{name}'" for name in missing)
        return f"{kind} object {names} not found in {where}"
    return f"no {kind} objects found in {where}"


def _show_tables(session: Session, query: Query, found: Iterable[tuple[Kind, list[JSON]]]) -> None:
    console = session.console
    now = session.now()
    for position, (kind, objects) in enumerate(found):
        if position:
            console.data("")
        rows = [query.row(kind, obj, now) for obj in objects]
        for line in table(query.headers(kind), rows, colour=console.colour_out, show_header=query.header):
            console.data(line)


def _show_objects(session: Session, query: Query, objects: list[JSON]) -> None:
    shown = [presentable(obj) for obj in objects]
    if query.output == "name":
        for obj in shown:
            session.console.data(object_name(obj))
        return
    # One object that was asked for by name is shown as itself, as kubectl does.
    single = len(query.target.names) == 1 and len(shown) == 1
    value = shown[0] if single else {"apiVersion": "v1", "kind": "List", "items": shown}
    text = as_json(value) if query.output == "json" else yaml.dump(value).rstrip("\n")
    session.console.data(text)


async def _watch(session: Session, query: Query) -> int:
    """Show what there is, then each change; ends by interruption or `--timeout`."""
    printer = _Printer(session, query)
    async with connected(session) as client, AsyncExitStack() as stack:
        present = await _lists(client, query)
        printer.begin(present)
        queue: asyncio.Queue[Change[JSON] | None] = asyncio.Queue()
        for kind, _objects in present:
            await stack.enter_async_context(
                changes(
                    client,
                    kind.gvk,
                    query.namespace,
                    labels=query.labels,
                    fields=query.fields,
                    into=queue,
                )
            )
        while True:
            change = await queue.get()
            if change is not None:
                printer.change(change)


class _Printer:
    """Prints a stream of objects, each state once.

    Args:
        session: whose console.
        query: what is shown and how.
    """

    def __init__(self, session: Session, query: Query) -> None:
        self._console = session.console
        self._now = session.now
        self._query = query
        self._widths: dict[tuple[str, ...], list[int]] = {}
        self._last: Kind | None = None
        self._seen: dict[str, str] = {}

    def begin(self, present: Iterable[tuple[Kind, list[JSON]]]) -> None:
        """Print what there is, and remember it: the watch will bring it once more."""
        for kind, objects in present:
            for obj in objects:
                self._seen[obj["metadata"]["uid"]] = obj["metadata"]["resourceVersion"]
            self._print(kind, objects)

    def change(self, change: Change[JSON]) -> None:
        """Print one change, if it is one of what is shown."""
        obj = change.new if change.new is not None else change.old
        if obj is None or not self._query.wants(obj):
            return
        kind = next(kind for kind in self._query.target.kinds if kind.name == obj["kind"])
        uid = obj["metadata"]["uid"]
        if change.new is None:
            self._seen.pop(uid, None)
            self._console.warning(f"{kind.name} {change.name} in {change.namespace} namespace deleted")
            return
        if self._seen.get(uid) != obj["metadata"]["resourceVersion"]:
            self._seen[uid] = obj["metadata"]["resourceVersion"]
            self._print(kind, [obj])

    def _print(self, kind: Kind, objects: list[JSON]) -> None:
        output = self._query.output
        if output in ("table", "wide"):
            self._print_rows(kind, objects)
            return
        for obj in objects:
            shown = presentable(obj)
            if output == "name":
                self._console.data(object_name(shown))
            elif output == "json":
                self._console.data(as_json(shown, indent=None))
            else:
                self._console.data("---\n" + yaml.dump(shown).rstrip("\n"))

    def _print_rows(self, kind: Kind, objects: list[JSON]) -> None:
        if not objects:
            return
        headers = self._query.headers(kind)
        # A header again only where the columns differ from those of the last line.
        same = self._last is not None and self._query.headers(self._last) == headers
        lines = table(
            headers,
            [self._query.row(kind, obj, self._now()) for obj in objects],
            widths=self._widths.setdefault(tuple(headers), []),
            colour=self._console.colour_out,
            show_header=self._query.header and not same,
        )
        self._last = kind
        for line in lines:
            self._console.data(line)
