"""Options that every verb shares, and the session that a verb runs in.

Role in the flow: the root group and every verb take the shared options, before or
after the verb; what was given is gathered here into one `Options`, from which a
`Session` is made when the verb starts. Knows no verb and no kind.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import click
from click.core import ParameterSource

from gitwright.cli.failures import Misuse, TimedOut
from gitwright.cli.output import Colour, Console, wants_colour
from gitwright.core import durations

DEFAULT_NAMESPACE: Final = "flux-system"
DEFAULT_TIMEOUT: Final = 300.0
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Duration(click.ParamType[float]):
    """A duration as Go writes it, such as `30s` or `5m`, given to the verb in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the duration; it must be more than nothing."""
        if isinstance(value, float):
            return value
        try:
            seconds = durations.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds <= 0:
            self.fail(f"{value!r} is not longer than nothing", param, ctx)
        return seconds


@dataclass(frozen=True, slots=True)
class Options:
    """The shared options, as given.

    Args:
        namespace: namespace of the objects.
        kubeconfig: path of a kubeconfig, or empty for the usual places.
        context: name of its context, or empty for the current one.
        user: user to act as, or empty.
        groups: groups to act as.
        timeout: seconds for the whole verb, or None for the verb's own limit.
        quiet: say only what went wrong.
        verbose: say more: logs of the client, traces of internal errors.
        colour: `auto`, `always` or `never`.
    """

    namespace: str = DEFAULT_NAMESPACE
    kubeconfig: str = ""
    context: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    timeout: float | None = None
    quiet: bool = False
    verbose: bool = False
    colour: Colour = "auto"


@dataclass(frozen=True, slots=True)
class Session:
    """One run of a verb: its shared options, its console and the world around it.

    Args:
        options: the shared options.
        console: where to write.
        environment: the process environment.
        now: the time in seconds since the epoch.
    """

    options: Options
    console: Console
    environment: Mapping[str, str]
    now: Callable[[], float] = time.time

    def run(self, work: Coroutine[Any, Any, int], *, limit: float | None = DEFAULT_TIMEOUT) -> int:
        """Run a verb's coroutine to its end and give its exit code.

        Args:
            work: the verb.
            limit: seconds it may take unless `--timeout` says otherwise; None for no limit.

        Raises:
            TimedOut: the time ran out; says what was being waited for.
        """
        given = self.options.timeout
        return asyncio.run(self._within(work, limit if given is None else given))

    async def _within(self, work: Coroutine[Any, Any, int], limit: float | None) -> int:
        try:
            async with asyncio.timeout(limit) as deadline:
                return await work
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise TimedOut(
                f"timed out after {durations.show(limit or 0)}",
                detail=self.console.progress.text,
                hint=self.console.progress.hint,
            ) from error


class _Shared(click.Option):
    """An option that every verb takes; its value goes to `Options`, not to the verb."""

    def __init__(
        self, *names: str, destination: str, at_root: bool, environment: str = "", **more: Any
    ) -> None:
        # Only the root reads the environment: read again by the verb, it would win over a flag before it.
        more["envvar"] = environment if at_root and environment else None
        super().__init__(list(names), expose_value=False, callback=self._remember, **more)
        self.destination = destination

    def _remember(self, ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        name = param.name or ""
        if ctx.get_parameter_source(name) not in (None, ParameterSource.DEFAULT):
            given: dict[str, Any] = ctx.find_root().ensure_object(dict)
            given[self.destination] = value
        return value


def _shared(at_root: bool) -> list[click.Option]:
    make = functools.partial(_Shared, at_root=at_root)
    return [
        make(
            "-n",
            "--namespace",
            destination="namespace",
            metavar="NAMESPACE",
            environment="GITWRIGHT_NAMESPACE",
            help=f"Namespace of the objects ({DEFAULT_NAMESPACE}; FLUX_SYSTEM_NAMESPACE changes that).",
        ),
        make(
            "--kubeconfig",
            destination="kubeconfig",
            metavar="PATH",
            environment="GITWRIGHT_KUBECONFIG",
            help="Kubeconfig to use instead of KUBECONFIG or ~/.kube/config.",
        ),
        make(
            "--context",
            destination="context",
            metavar="NAME",
            environment="GITWRIGHT_CONTEXT",
            help="Context of the kubeconfig.",
        ),
        make("--as", "as_user", destination="user", metavar="USER", help="Act as this user."),
        make(
            "--as-group", destination="groups", metavar="GROUP", multiple=True, help="Act as in this group."
        ),
        make(
            "--timeout",
            destination="timeout",
            type=Duration(),
            metavar="DURATION",
            help="Time limit of the whole verb, such as 30s (5m; none with --watch).",
        ),
        make("-q", "--quiet", destination="quiet", is_flag=True, help="Say only what went wrong."),
        make("-v", "--verbose", destination="verbose", is_flag=True, help="Say more, for finding faults."),
        make(
            "--color",
            "--colour",
            destination="colour",
            type=click.Choice(["auto", "always", "never"]),
            environment="GITWRIGHT_COLOR",
            help="Colour on a terminal, always or never (auto; NO_COLOR is obeyed).",
        ),
    ]


class _SharingMixin(click.Command):
    """Adds the shared options to a command, unless it has an option of that name itself."""

    at_root = False

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Give the command's own parameters and the shared ones."""
        own = super().get_params(ctx)
        taken = {name for param in own for name in param.opts}
        return [*own, *(option for option in _shared(self.at_root) if not taken & set(option.opts))]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options and the shared ones apart."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Options of every verb": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                shared = isinstance(param, _Shared) or bool({"--help", "--version"} & set(param.opts))
                sections["Options of every verb" if shared else "Options"].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)


class Verb(_SharingMixin, click.Command):
    """A verb of the command line, with the shared options."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help; a raw docstring's mark for a block of its own lines counts as click's."""
        self.help = self.help.replace("\\b\n", "\b\n") if self.help else self.help
        super().format_help_text(ctx, formatter)


class VerbGroup(_SharingMixin, click.Group):
    """The root of the command line, with the shared options."""

    at_root = True


def options_of(given: Mapping[str, Any], environment: Mapping[str, str]) -> Options:
    """Make the shared options of what was given and of the environment.

    Raises:
        Misuse: a namespace is not a DNS label, or options exclude each other.
    """
    values = dict(given)
    values.setdefault("namespace", environment.get("FLUX_SYSTEM_NAMESPACE") or DEFAULT_NAMESPACE)
    if not _LABEL.fullmatch(values["namespace"]):
        raise Misuse(f'namespace must be a valid DNS label: "{values["namespace"]}"', place="--namespace")
    if values.get("groups") and not values.get("user"):
        raise Misuse("--as-group needs --as", place="--as-group")
    if values.get("quiet") and values.get("verbose"):
        raise Misuse("--quiet and --verbose exclude each other")
    return Options(**values)


def console_of(given: Mapping[str, Any], environment: Mapping[str, str]) -> Console:
    """Make the console for what was given so far; works even while options are wrong."""
    colour: Colour = given.get("colour", "auto")
    return Console(
        out=sys.stdout,
        err=sys.stderr,
        colour_out=wants_colour(colour, environment, terminal=sys.stdout.isatty()),
        colour_err=wants_colour(colour, environment, terminal=sys.stderr.isatty()),
        live=sys.stderr.isatty() and environment.get("TERM") != "dumb",
        quiet=bool(given.get("quiet")),
    )


def in_session(function: Callable[..., int]) -> Callable[..., int]:
    """Give a verb's function its `Session` as first argument."""

    @functools.wraps(function)
    def started(*args: Any, **kwargs: Any) -> int:
        given: dict[str, Any] = click.get_current_context().find_root().ensure_object(dict)
        session = Session(options_of(given, os.environ), console_of(given, os.environ), os.environ)
        return function(session, *args, **kwargs)

    return started


def given_options() -> frozenset[str]:
    """Name the shared options that were given, on the command line or by the environment."""
    given: dict[str, Any] = click.get_current_context().find_root().ensure_object(dict)
    return frozenset(given)


def output_option(*formats: Literal["table", "wide", "json", "yaml", "name"]) -> Callable[..., Any]:
    """Make the option `-o`; the first format is the one used without it."""
    return click.option(
        "-o",
        "--output",
        "output",
        type=click.Choice(list(formats)),
        default=formats[0],
        show_default=True,
        help="How to print the result.",
    )
