"""The command line: verbs and output; it decides nothing about the cluster.

Role in the flow: `main` reads the arguments, runs one verb and gives its exit code
(see `failures`). A verb is imported when it is used, so that each costs only what it
needs.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final

import click

from gitwright import __version__
from gitwright.cli.failures import FAILED, INTERRUPTED, USAGE, YES, advise, exit_code
from gitwright.cli.options import VerbGroup, console_of
from gitwright.core.errors import GitwrightError

__all__ = ["main", "root"]

# Verb: module, and the line about it in the list of verbs (a test holds it equal to the verb's own).
VERBS: Final = {
    "run": ("run", "Run the engine."),
    "install": ("install", "Install the engine in a cluster."),
    "uninstall": ("uninstall", "Remove the engine from a cluster."),
    "check": ("check", "Check the cluster and the installation."),
    "get": ("get", "Show objects and their state."),
    "reconcile": ("reconcile", "Reconcile an object now, and wait."),
    "suspend": ("toggle", "Stop reconciling objects."),
    "resume": ("toggle", "Go on reconciling suspended objects."),
    "events": ("events", "Show the events of objects."),
    "kustomize": ("kustomize", "Build kustomizations and print the objects."),
    "version": ("version", "Show the versions."),
}


class _Root(VerbGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the verbs in the order in which one needs them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb when it is used."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"gitwright.cli.{VERBS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, about) for name, (_module, about) in VERBS.items()])


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s version %(version)s", help="Show the version and exit.")
def root() -> None:
    """gitwright: a GitOps engine for Kubernetes that runs any Flux repository.

    Exit codes: 0 yes; 1 no (not ready, check failed); 2 wrong usage; 3 the operation
    failed; 4 denied; 5 timeout; 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code.

    Args:
        arguments: the words after the program's name; those of the process by default.
    """
    given: dict[str, Any] = {}
    for stream in (sys.stdout, sys.stderr):
        # A terminal of another encoding must not turn a name into a failure.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    try:
        result = root.main(args=arguments, prog_name="gitwright", standalone_mode=False, obj=given)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough; what Python flushes at exit must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return YES
    except click.ClickException as error:
        error.show()
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        console_of(given, os.environ).failure("interrupted")
        return INTERRUPTED
    except GitwrightError as error:
        advise(error)
        console_of(given, os.environ).error(error)
        return exit_code(error)
    except Exception as error:
        return _unexpected(error, given)
    return result if isinstance(result, int) else YES


def _unexpected(error: Exception, given: dict[str, Any]) -> int:
    console = console_of(given, os.environ)
    if given.get("verbose"):
        traceback.print_exception(error, file=console.err)
    verbose = "" if given.get("verbose") else "; --verbose shows where"
    console.failure(
        f"internal error: {type(error).__name__}: {error}",
        hint=f"this is a fault of gitwright, please report it{verbose}",
    )
    return FAILED
