"""The command line against a real API server: what people type, what they see, what is changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.cli_tools import (
    REVISION,
    Cli,
    apply,
    artifact,
    environment,
    git_repository,
    kustomization,
    live,
    report,
    requested,
    when,
)


def test_get_shows_kustomizations_as_flux_does(cli: Cli) -> None:
    """The table has Flux's columns with digests cut short, and messages that are not ready as they are."""
    apply(cli, kustomization(cli, "good"), kustomization(cli, "bad"), kustomization(cli, "new"))
    report(
        cli,
        "ks",
        "good",
        "True",
        f"Applied revision: {REVISION}",
        lastAppliedRevision=REVISION,
    )
    report(cli, "ks", "bad", "False", "kustomize build failed:\n  no such file")
    done = cli("get", "ks")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "NAME   REVISION             SUSPENDED   READY   MESSAGE",
        "bad                         False       False   kustomize build failed: no such file",
        "good   main@sha1:696f056d   False       True    Applied revision: main@sha1:696f056d",
        "new                         False       False   waiting to be reconciled",
    ]


def test_get_prints_objects_that_kubectl_takes_back(cli: Cli) -> None:
    """JSON and YAML are the objects themselves, one by name as itself, several as a List."""
    apply(cli, kustomization(cli, "a"), git_repository(cli, "repo"))
    one = json.loads(cli("get", "kustomization", "a", "-o", "json").stdout)
    assert (one["kind"], one["metadata"]["name"]) == ("Kustomization", "a")
    assert "managedFields" not in one["metadata"]
    several = yaml.safe_load(cli("get", "all", "-o", "yaml").stdout)
    assert [item["kind"] for item in several["items"]] == ["GitRepository", "Kustomization"]
    named = cli("get", "all", "-o", "name").stdout
    assert named.splitlines() == [
        "gitrepository.source.toolkit.fluxcd.io/repo",
        "kustomization.kustomize.toolkit.fluxcd.io/a",
    ]
    cli.cluster.kubectl("get", "-n", cli.namespace, *named.split())


def test_get_chooses_by_name_label_and_condition(cli: Cli) -> None:
    """Names, label and status selectors narrow the table; all namespaces add a column."""
    labelled = kustomization(cli, "labelled")
    labelled["metadata"]["labels"] = {"team": "a"}
    apply(cli, labelled, kustomization(cli, "plain"))
    some = cli("get", "ks/plain", "ks/ghost", "-o", "name")
    assert some.stdout.endswith("/plain\n")
    assert "object 'ghost' not found" in some.stderr
    report(cli, "ks", "labelled", "True", "fine")
    assert cli("get", "ks", "plain", "-o", "name").stdout.endswith("/plain\n")
    assert cli("get", "ks", "-l", "team=a", "-o", "name").stdout.endswith("/labelled\n")
    assert cli("get", "ks", "--status-selector", "ready!=true", "-o", "name").stdout.endswith("/plain\n")
    rows = [line.split() for line in cli("get", "ks", "-A").stdout.splitlines()]
    assert rows[0][:2] == ["NAMESPACE", "NAME"]
    assert [cli.namespace, "labelled"] in [row[:2] for row in rows]


def test_get_groups_kinds(cli: Cli) -> None:
    """`get all` shows one table per kind, sources first, with the kind before each name."""
    apply(cli, kustomization(cli, "app"), git_repository(cli, "repo"))
    sources, apps = cli("get", "all").stdout.split("\n\n")
    assert sources.splitlines()[1].startswith("gitrepository/repo ")
    assert apps.splitlines()[1].startswith("kustomization/app ")


def test_nothing_found_is_no_failure(cli: Cli) -> None:
    """Without a result `get` says so on standard error and exits with 0."""
    done = cli("get", "ks")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f'no Kustomization objects found in "{cli.namespace}" namespace\n'
    named = cli("get", "ks", "ghost", "-o", "json")
    assert named.returncode == 0
    assert json.loads(named.stdout)["items"] == []
    assert f"Kustomization object 'ghost' not found in \"{cli.namespace}\" namespace" in named.stderr


def test_get_streams_changes(cli: Cli) -> None:
    """`get -w` prints what there is and then each new state as it comes, aligned, without a header again."""
    apply(cli, kustomization(cli, "app"))
    process = cli.start("get", "ks", "-w")
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("NAME ")
        assert "waiting to be reconciled" in process.stdout.readline()
        report(cli, "ks", "app", "True", "now it is fine")
        assert process.stdout.readline() == "app               False       True    now it is fine\n"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_an_interrupt_ends_a_watch_with_130(cli: Cli) -> None:
    """Ctrl-C ends a stream at once, with the exit code of an interrupt and no trace."""
    apply(cli, kustomization(cli, "app"))
    process = cli.start("get", "ks", "-w", "-o", "name")
    assert process.stdout is not None
    assert process.stdout.readline() != ""
    process.send_signal(2)
    _out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err.strip() == "✗ interrupted"


def test_suspend_and_resume_write_what_flux_writes(cli: Cli) -> None:
    """suspend sets spec.suspend as Flux's command line does, resume removes it and waits for Ready."""
    apply(cli, kustomization(cli, "app"))
    done = cli("suspend", "kustomization", "app")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        f"► suspending kustomization app in {cli.namespace} namespace",
        "✔ kustomization suspended",
    ]
    suspended = live(cli, "ks", "app")
    assert suspended["spec"]["suspend"] is True
    assert ("flux", "Update") in [
        (entry["manager"], entry["operation"]) for entry in suspended["metadata"]["managedFields"]
    ]

    thread = when(
        lambda: "suspend" not in live(cli, "ks", "app")["spec"],
        lambda: report(cli, "ks", "app", "True", "applied", lastAppliedRevision=REVISION),
    )
    done = cli("resume", "kustomization", "app", "--timeout", "30s")
    thread.join()
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        f"► resuming kustomization app in {cli.namespace} namespace",
        "✔ kustomization resumed",
        "◎ waiting for Kustomization reconciliation",
        "✔ Kustomization app reconciliation completed",
        f"✔ applied revision {REVISION}",
    ]


def test_suspend_names_what_it_does_not_find(cli: Cli) -> None:
    """Of several names those that exist are suspended, the others named, and the exit code tells."""
    apply(cli, kustomization(cli, "app"))
    done = cli("suspend", "ks", "app", "ghost")
    assert done.returncode == 3
    assert f"✗ Kustomization ghost not found in {cli.namespace} namespace" in done.stderr
    assert live(cli, "ks", "app")["spec"]["suspend"] is True


def test_all_objects_of_a_namespace_are_suspended_and_resumed(cli: Cli) -> None:
    """--all takes every object of the kind in the namespace, and resume does not wait then."""
    apply(cli, kustomization(cli, "a"), kustomization(cli, "b"))
    assert cli("suspend", "ks", "--all").returncode == 0
    assert [live(cli, "ks", name)["spec"].get("suspend") for name in "ab"] == [True, True]
    assert cli("resume", "ks", "--all").returncode == 0
    assert [live(cli, "ks", name)["spec"].get("suspend") for name in "ab"] == [None, None]


def test_reconcile_asks_and_waits_with_its_source_first(cli: Cli) -> None:
    """--with-source asks the source first and waits for it, then the object, each by Flux's annotation."""
    apply(cli, kustomization(cli, "app"), git_repository(cli, "repo"))
    order: list[str] = []

    def fetch() -> None:
        order.append("before app" if not requested(cli, "ks", "app") else "after app")
        at = requested(cli, "gitrepository", "repo")
        report(
            cli,
            "gitrepository",
            "repo",
            "True",
            "stored",
            artifact=artifact(REVISION),
            lastHandledReconcileAt=at,
        )

    def applied() -> None:
        at = requested(cli, "ks", "app")
        report(cli, "ks", "app", "True", "ok", lastAppliedRevision=REVISION, lastHandledReconcileAt=at)

    threads = [
        when(lambda: bool(requested(cli, "gitrepository", "repo")), fetch),
        when(lambda: bool(requested(cli, "ks", "app")), applied),
    ]
    done = cli("reconcile", "ks", "app", "--with-source", "--timeout", "40s")
    for thread in threads:
        thread.join()
    assert done.returncode == 0, done.stderr
    assert order == ["before app"]
    where = f"in {cli.namespace} namespace"
    assert done.stderr.splitlines() == [
        f"► annotating GitRepository repo {where}",
        "✔ GitRepository annotated",
        "◎ waiting for GitRepository reconciliation",
        f"✔ fetched revision {REVISION}",
        f"► annotating Kustomization app {where}",
        "✔ Kustomization annotated",
        "◎ waiting for Kustomization reconciliation",
        f"✔ applied revision {REVISION}",
    ]


def test_reconcile_of_what_is_not_ready_answers_no(cli: Cli) -> None:
    """An object that was handled and is not ready gives exit code 1, its message and a hint."""
    apply(cli, kustomization(cli, "app"))
    thread = when(
        lambda: bool(requested(cli, "ks", "app")),
        lambda: report(
            cli, "ks", "app", "False", "build failed", lastHandledReconcileAt=requested(cli, "ks", "app")
        ),
    )
    done = cli("reconcile", "ks", "app", "--timeout", "30s")
    thread.join()
    assert done.returncode == 1
    assert f"✗ Kustomization/{cli.namespace}/app: Kustomization reconciliation failed: build failed" in (
        done.stderr
    )
    assert f"hint: see `gitwright events --for Kustomization/app -n {cli.namespace}`" in done.stderr


def test_reconcile_gives_up_in_time(cli: Cli) -> None:
    """When nobody handles the request the exit code is 5 and the last known state is named."""
    apply(cli, kustomization(cli, "app"))
    report(cli, "ks", "app", "True", "all was well", lastHandledReconcileAt="2026-01-01T00:00:00Z")
    done = cli("reconcile", "ks", "app", "--timeout", "3s")
    assert done.returncode == 5
    assert "✗ timed out after 3s" in done.stderr
    assert f"Kustomization/{cli.namespace}/app: all was well" in done.stderr


def test_reconcile_refuses_what_is_suspended_or_missing(cli: Cli) -> None:
    """A suspended object and a missing one fail with object, field and hint, and nothing is written."""
    apply(cli, kustomization(cli, "app", suspend=True))
    done = cli("reconcile", "ks", "app")
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        f"✗ Kustomization/{cli.namespace}/app: resource is suspended",
        "  spec.suspend",
        f"  hint: resume it with `gitwright resume kustomization app -n {cli.namespace}`",
    ]
    assert requested(cli, "ks", "app") == ""
    missing = cli("reconcile", "source", "git", "ghost")
    assert missing.returncode == 3
    assert f"GitRepository/{cli.namespace}/ghost" in missing.stderr
    assert "not found" in missing.stderr


def test_who_may_not_is_told_so(cli: Cli) -> None:
    """Without the right the exit code is 4 and the server's own words are shown."""
    if not cli.cluster.own:
        pytest.skip("users cannot be made in a cluster of somebody else")
    apply(cli, kustomization(cli, "app"))
    user = cli.cluster.fresh_user()
    for arguments in (["get", "ks"], ["suspend", "ks", "app"], ["reconcile", "ks", "app"], ["events"]):
        done = cli(*arguments, user=user)
        assert done.returncode == 4, arguments
        assert "is forbidden" in done.stderr
        assert done.stdout == ""


def test_impersonation_is_by_flags(cli: Cli) -> None:
    """--as and --as-group ask as somebody else, with that one's rights."""
    apply(cli, kustomization(cli, "app"))
    assert cli("get", "ks", "--as", "somebody").returncode == 4
    assert cli("get", "ks", "--as", "somebody", "--as-group", "system:masters").returncode == 0


def event(cli: Cli, name: str, kind: str, about: str, group: str, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": cli.namespace},
        "involvedObject": {
            "kind": kind,
            "name": about,
            "namespace": cli.namespace,
            "apiVersion": f"{group}/v1",
        },
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "reason": "Test",
        "type": "Normal",
        "message": name,
        "source": {"component": "kustomize-controller"},
        **more,
    }


def test_events_tell_the_story_in_order(cli: Cli) -> None:
    """Events of Flux's kinds are listed oldest first, with those of the source for one Kustomization."""
    ks, git = "kustomize.toolkit.fluxcd.io", "source.toolkit.fluxcd.io"
    apply(
        cli,
        kustomization(cli, "app"),
        event(cli, "later", "Kustomization", "app", ks, lastTimestamp="2026-01-01T00:05:00Z"),
        event(cli, "first", "GitRepository", "repo", git, type="Warning"),
        event(cli, "unrelated", "Kustomization", "other", ks, lastTimestamp="2026-01-01T00:02:00Z"),
        event(cli, "foreign", "Kustomization", "app", "kustomize.config.k8s.io"),
        event(cli, "pod", "Pod", "app-1", "v1"),
    )

    def messages(*arguments: str) -> list[str]:
        done = cli("events", *arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return [item["message"] for item in json.loads(done.stdout)["items"]]

    assert messages() == ["first", "unrelated", "later"]
    assert messages("--for", "Kustomization/app") == ["first", "later"]
    assert messages("--for", "ks") == ["unrelated", "later"]
    assert messages("--types", "warning") == ["first"]
    header, row, *_ = cli("events").stdout.splitlines()
    assert header.split("   ")[0] == "LAST SEEN"
    assert "Warning   Test     GitRepository/repo    first" in row


def test_events_stream(cli: Cli) -> None:
    """`events -w` prints each event once, those that come later too."""
    group = "kustomize.toolkit.fluxcd.io"
    apply(cli, event(cli, "one", "Kustomization", "app", group))
    process = cli.start("events", "-w")
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert lines[1].endswith(" one\n")
        apply(cli, event(cli, "two", "Kustomization", "app", group))
        assert process.stdout.readline().endswith(" two\n")
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_an_unreachable_cluster_is_told_with_its_address(tmp_path: Path) -> None:
    """Without an answer the exit code is 3 and the error names the server."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-m", "gitwright", "get", "ks", "--kubeconfig", str(path)],
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 3
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
