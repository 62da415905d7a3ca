"""The command line as a whole: help, usage, shared options and exit codes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gitwright import __version__, cli
from gitwright.cli.failures import Misuse, Negative, TimedOut, exit_code
from gitwright.cli.options import Options, options_of
from gitwright.cli.run import interrupt, shared
from gitwright.core.errors import Denied, Stalled, Transient
from gitwright.settings import OPTIONS


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the cluster and the settings of whoever runs the tests out of them."""
    for name in ("KUBECONFIG", "GITWRIGHT_NAMESPACE", "GITWRIGHT_KUBECONFIG", "FLUX_SYSTEM_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Negative("no"), 1),
        (Misuse("what"), 2),
        (Stalled("failed"), 3),
        (Transient("failed"), 3),
        (RuntimeError("fault"), 3),
        (Denied("denied"), 4),
        (TimedOut("late"), 5),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: BaseException, code: int) -> None:
    """The codes are 1 no, 2 usage, 3 failed, 4 denied, 5 timeout and 130 interrupted."""
    assert exit_code(error) == code


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_each_verb_is_described_where_verbs_are_listed(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each verb has a help page with examples, and its line in the list is its own."""
    command = cli.root.get_command(click.Context(cli.root), verb)
    assert command is not None
    assert command.short_help == cli.VERBS[verb][1]
    assert cli.main([verb, "--help"]) == 0
    page = capsys.readouterr().out
    assert f"gitwright {verb}" in page.split("Examples:")[1]
    assert "--color" in page


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """The first page names all verbs and the exit codes."""
    assert cli.main(["--help"]) == 0
    page = capsys.readouterr().out
    assert all(f"  {verb} " in page for verb in cli.VERBS)
    assert "Exit codes" in page


def test_run_has_a_flag_for_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """Each row of the table of settings is a flag of `run`, with its environment variable in the help."""
    assert cli.main(["run", "--help"]) == 0
    words = capsys.readouterr().out.split()
    for row in OPTIONS:
        assert row.flag in words
        assert f"{row.variable}]" in words


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["get"], "a kind is missing", 2),
        (["get", "pods"], "'pods' is not a recognized kind", 2),
        (["get", "ks", "-o", "xml"], "'xml' is not one of", 2),
        (["frobnicate"], "No such command", 2),
        (["-n", "Not_A_Label", "get", "ks"], "namespace must be a valid DNS label", 2),
        (["get", "ks", "--timeout", "soon"], "is not a duration", 2),
        (["get", "ks", "--timeout", "0s"], "is not longer than nothing", 2),
        (["get", "ks", "-q", "-v"], "exclude each other", 2),
        (["get", "ks", "--as-group", "g"], "--as-group needs --as", 2),
        (["reconcile", "ks"], "Kustomization name is required", 2),
        (["suspend", "ks"], "kustomization name is required", 2),
        (["resume", "ks", "a", "--all"], "give names or --all, not both", 2),
        (["events", "--for", "Pod/x"], "'Pod' is not a recognized Flux kind", 2),
        (["events", "--types", "Odd"], "type 'Odd' not supported", 2),
        (["install"], "Missing option '--image'", 2),
        (["uninstall"], "nobody can be asked", 2),
        (["run", "--timeout", "1m"], "--timeout does not go with `run`", 2),
        (["run", "--concurrent", "many"], "'many' is not a whole number", 3),
        (["get", "ks", "--kubeconfig", "/does/not/exist"], "/does/not/exist", 3),
    ],
)
def test_wrong_usage_is_told_on_standard_error(
    arguments: list[str], message: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be done is said on standard error with its exit code, and standard output stays empty."""
    assert cli.main(arguments) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""


def test_shared_options_go_before_and_after_the_verb() -> None:
    """A shared option means the same before and after the verb, and the one after wins."""
    seen: list[dict[str, object]] = []

    @click.command(cls=cli.options.Verb)
    @click.pass_context
    def probe(ctx: click.Context) -> None:
        seen.append(dict(ctx.find_root().obj))

    group = cli.options.VerbGroup("root", commands={"probe": probe})
    for arguments in (
        ["-n", "a", "probe"],
        ["probe", "-n", "a"],
        ["-n", "b", "probe", "--namespace", "a"],
    ):
        group.main(arguments, standalone_mode=False, obj={})
    assert seen == [{"namespace": "a"}] * 3


def test_the_environment_gives_shared_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables stand for options that were not given; Flux's variable for the namespace is known."""
    assert options_of({}, {}).namespace == "flux-system"
    assert options_of({}, {"FLUX_SYSTEM_NAMESPACE": "gitops"}).namespace == "gitops"
    assert options_of({"namespace": "own"}, {"FLUX_SYSTEM_NAMESPACE": "gitops"}).namespace == "own"


def test_shared_options_of_run_become_settings() -> None:
    """Context, namespace and loudness given as shared options reach the engine's settings."""
    options = Options(namespace="n", context="c", verbose=True)
    assert shared(options, frozenset({"namespace", "context", "verbose"})) == {
        "context": "c",
        "runtime-namespace": "n",
        "log-level": "debug",
    }


async def test_the_second_interrupt_does_not_wait() -> None:
    """The first interrupt asks the engine to stop, the second cancels what still runs."""
    stop = asyncio.Event()
    work: asyncio.Task[int] = asyncio.create_task(_never())
    await asyncio.sleep(0)
    interrupt(stop, work)
    assert stop.is_set()
    assert not work.cancelling()
    interrupt(stop, work)
    with pytest.raises(asyncio.CancelledError):
        await work


async def _never() -> int:
    await asyncio.Event().wait()
    return 0


def test_the_version_needs_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    """`version --client` prints the program's own version as data."""
    assert cli.main(["version", "--client", "-o", "json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"gitwright": f"v{__version__}"}
    assert shown.err == ""


def test_the_version_is_an_option_too(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` says it in Flux's form."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"gitwright version {__version__}\n"


def test_a_closed_pipe_is_no_failure() -> None:
    """Whoever reads only the first lines of the output does not make the verb fail."""
    script = "exec 3>&1; { $PY -m gitwright run --help; echo code=$? >&3; } | head -1 >/dev/null"
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PY": sys.executable, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "code=0\n"
    assert "Traceback" not in done.stderr


def test_a_fault_of_ours_is_told_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unexpected error is named without a trace, which --verbose adds, and exits with 3."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(cli.root, "invoke", broken)
    assert cli.main(["version", "--client"]) == 3
    quiet = capsys.readouterr().err
    assert "internal error: ZeroDivisionError: by nought" in quiet
    assert "Traceback" not in quiet


@pytest.mark.parametrize(
    "verb",
    ["check", "events", "get", "install", "reconcile", "resume", "run", "suspend", "uninstall", "version"],
)
def test_examples_stand_on_lines_of_their_own(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of each verb shows its examples line by line, to be copied."""
    assert cli.main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "\\b" not in text
    assert any(line.strip().startswith(f"gitwright {verb}") for line in text.splitlines())
