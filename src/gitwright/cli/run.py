"""`gitwright run`: the engine, against the cluster of a kubeconfig or the one it runs in.

Role in the flow: makes a flag of every row of the table of settings, turns flags and
environment into `Settings`, and hands them with an event that signals set to the
composition root. Knows no setting by name but those that shared options also give.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import click

from gitwright.cli.failures import INTERRUPTED, Misuse
from gitwright.cli.options import Options, Session, Verb, given_options, in_session
from gitwright.settings import OPTIONS, Option, Settings, from_sources


class _SettingFlag(click.Option):
    """A flag made of one row of the table; its text is read by the table's own rules.

    Args:
        row: the row.
    """

    def __init__(self, row: Option) -> None:
        about = row.about
        more: dict[str, Any] = {}
        if about.type == "boolean":
            # As Go's flags: `--lockdown` alone and `--lockdown=false` are both allowed.
            more = {"is_flag": False, "flag_value": "true"}
        elif row.repeatable:
            more = {"multiple": True}
        super().__init__(
            [row.flag, row.attribute],
            metavar="|".join(about.choices) or about.type.upper(),
            help=f"{about.text} [{row.shown or 'empty'}; {row.variable}]",
            **more,
        )
        self.row = row


class _Run(Verb):
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the flags under the headings of the reference."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                title: str = (
                    param.row.about.group if isinstance(param, _SettingFlag) else "Options of every verb"
                )
                groups.setdefault(title, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


@in_session
def _start(session: Session, **flags: Any) -> int:
    settings = from_sources(
        {**shared(session.options, given_options()), **_present(flags)}, session.environment
    )
    return asyncio.run(_run(settings))


run = _Run(
    "run",
    params=[_SettingFlag(row) for row in OPTIONS],
    callback=_start,
    short_help="Run the engine.",
    help="""Run the engine until it is told to stop.

Every flag has an environment variable; a flag wins over it. The first interrupt
(or SIGTERM) lets running work end and gives the leases back, the second does not wait.

\b
Examples:
  gitwright run
  gitwright run --kubeconfig ~/.kube/config --context staging --log-encoding text
""",
)


def _present(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value not in (None, ())}


def shared(options: Options, given: frozenset[str]) -> dict[str, str]:
    """Give the settings that shared options stand for; a flag of `run` itself wins over them.

    Args:
        options: the shared options.
        given: the names of those that were given.

    Raises:
        Misuse: an option that means nothing for an engine.
    """
    for name, flag in (("user", "--as"), ("groups", "--as-group"), ("timeout", "--timeout")):
        if name in given:
            raise Misuse(f"{flag} does not go with `run`", place=flag)
    found = {}
    if "kubeconfig" in given:
        found["kubeconfig"] = options.kubeconfig
    if "context" in given:
        found["context"] = options.context
    if "namespace" in given:
        found["runtime-namespace"] = options.namespace
    if options.verbose or options.quiet:
        found["log-level"] = "debug" if options.verbose else "error"
    return found


async def _run(settings: Settings) -> int:
    from gitwright import app  # the whole engine: only who runs it pays for the import

    stop = asyncio.Event()
    work = asyncio.create_task(app.run(settings, stop))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt, stop, work)
    try:
        return await work
    except asyncio.CancelledError:
        return INTERRUPTED


def interrupt(stop: asyncio.Event, work: asyncio.Task[int]) -> None:
    """Take one interrupt: stop gently, then at once, then without another word.

    Args:
        stop: asks the engine to stop.
        work: the engine.
    """
    if not stop.is_set():
        stop.set()
    elif not work.cancelling():
        work.cancel()
    else:
        os._exit(INTERRUPTED)
