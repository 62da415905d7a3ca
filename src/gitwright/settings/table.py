"""Every option of the engine, once: name, type, unit, default, limits and the reason for the default.

Role in the flow: the command line makes its flags of this table, the reference page is made
of it, and one frozen `Settings` holds the values. It reads nothing from anywhere.

Names are Flux's where Flux has the option (spec/flux-v2.md 2.8, 3.7, 9.1).
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, fields
from typing import Annotated, Final

from gitwright.api import meta
from gitwright.settings.option import GATES, About, Option, Setting, SettingError, bracketed, read_gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The engine's settings. Durations are seconds, sizes bytes."""

    kubeconfig: Annotated[
        str,
        About(
            "path",
            "Cluster",
            "Kubeconfig file of the cluster to run on.",
            "Empty: KUBECONFIG, then ~/.kube/config, then the pod's own account, as kubectl does.",
        ),
    ] = ""
    context: Annotated[
        str, About("text", "Cluster", "Context of the kubeconfig.", "Empty: the current context.")
    ] = ""
    runtime_namespace: Annotated[
        str,
        About(
            "text",
            "Cluster",
            "Namespace of the engine: leases and, with watch-all-namespaces off, all objects.",
            "Flux's own namespace, because the leases of Flux's controllers are there.",
            also=("RUNTIME_NAMESPACE",),
        ),
    ] = "flux-system"
    watch_all_namespaces: Annotated[
        bool,
        About(
            "boolean",
            "Cluster",
            "Run the objects of all namespaces, or of the runtime namespace only.",
            "As Flux.",
        ),
    ] = True
    watch_label_selector: Annotated[
        str,
        About(
            "text",
            "Cluster",
            "Run only objects whose labels match, such as `sharding.fluxcd.io/key=shard1`.",
            "Empty: all objects; a shard sets it.",
        ),
    ] = ""
    kube_api_concurrency: Annotated[
        int,
        About(
            "integer",
            "Cluster",
            "Requests to the API server at the same time.",
            "Keeps the server's queue short; priority and fairness do the rest.",
            unit="requests",
            least=1,
            most=1000,
        ),
    ] = 64

    storage_path: Annotated[
        str,
        About(
            "path",
            "Storage",
            "Directory of mirrors, artifacts and scratch files; everything in it can be deleted at any time.",
            "Empty: XDG_CACHE_HOME/gitwright, or ~/.cache/gitwright.",
        ),
    ] = ""
    storage_addr: Annotated[
        str,
        About(
            "address",
            "Storage",
            "Address that artifacts are served on; port 0 takes a free one.",
            "This machine only; an installation opens it to the cluster.",
        ),
    ] = "127.0.0.1:9090"
    storage_adv_addr: Annotated[
        str,
        About(
            "text",
            "Storage",
            "Host, or host and port, written into status.artifact.url.",
            "Empty: the address that artifacts are served on.",
        ),
    ] = ""
    artifact_key_file: Annotated[
        str,
        About(
            "path",
            "Storage",
            "File with the key that makes artifact addresses unguessable.",
            "Empty: a random key kept in the storage directory.",
        ),
    ] = ""
    artifact_retention_ttl: Annotated[
        float,
        About("duration", "Storage", "How long an old artifact is kept at most.", "As Flux.", "seconds", 0),
    ] = 60.0
    artifact_retention_records: Annotated[
        int,
        About("integer", "Storage", "Artifacts of a source that are kept at most.", "As Flux.", "files", 1),
    ] = 2
    allow_loopback_sources: Annotated[
        bool,
        About(
            "boolean",
            "Storage",
            "Let sources name this machine; its metadata address and the engine's own ports stay refused.",
            "Off: an address in somebody's object must not reach what listens here (S36).",
        ),
    ] = False

    health_addr: Annotated[
        str,
        About(
            "address",
            "Endpoints",
            "Address of /healthz, /readyz and /metrics; port 0 takes a free one.",
            "This machine only; an installation opens it to the cluster.",
        ),
    ] = "127.0.0.1:9440"
    metrics_token_file: Annotated[
        str,
        About(
            "path",
            "Endpoints",
            "File with the bearer token that /metrics asks for.",
            "Empty: /metrics is refused to everyone, because no endpoint answers without identity (S5).",
        ),
    ] = ""

    concurrent: Annotated[
        int,
        About("integer", "Work", "Kustomizations that run at the same time.", "As Flux.", "objects", 1, 1000),
    ] = 4
    concurrent_sources: Annotated[
        int,
        About("integer", "Work", "Sources fetched at the same time.", "As Flux.", "objects", 1, 1000),
    ] = 2
    concurrent_ssa: Annotated[
        int,
        About(
            "integer",
            "Work",
            "Dry runs of one Kustomization at once.",
            "As Flux.",
            "requests",
            1,
            100,
        ),
    ] = 4
    requeue_dependency: Annotated[
        float,
        About(
            "duration",
            "Work",
            "How soon an object that waits for another is looked at again, should the watch miss it.",
            "As Flux; a watch makes it a safety net only.",
            "seconds",
            0.001,
        ),
    ] = 30.0
    min_retry_delay: Annotated[
        float,
        About(
            "duration",
            "Work",
            "First delay after an error; it doubles.",
            "As Flux.",
            "seconds",
            0.001,
        ),
    ] = 0.75
    max_retry_delay: Annotated[
        float,
        About("duration", "Work", "Greatest delay after an error.", "As Flux.", "seconds", 0.001),
    ] = 900.0
    interval_jitter_percentage: Annotated[
        int,
        About(
            "integer",
            "Work",
            "How much an interval varies at random, either way.",
            "As Flux: objects created together must not run together for ever.",
            "percent",
            0,
            99,
        ),
    ] = 5
    time_limit_floor: Annotated[
        float,
        About("duration", "Work", "Least time limit of a Kustomization's run.", "As Flux.", "seconds", 0),
    ] = 30.0
    graceful_shutdown_timeout: Annotated[
        float,
        About(
            "duration",
            "Work",
            "How long running work may take to end when the engine is told to stop.",
            "Below the 60 s after which the installed pod is killed.",
            "seconds",
            0,
        ),
    ] = 45.0
    feature_gates: Annotated[
        tuple[str, ...],
        About(
            "gates",
            "Work",
            "Features to switch, such as `Name=false`.",
            "Each has its own default.",
        ),
    ] = ()

    lockdown: Annotated[
        bool,
        About(
            "boolean",
            "Tenancy",
            "Turn every strict setting on at once, for clusters with tenants.",
            "Off: a Flux repository runs unchanged.",
        ),
    ] = False
    default_service_account: Annotated[
        str,
        About(
            "text",
            "Tenancy",
            "ServiceAccount, in the namespace of the object, to act as where the object names none.",
            "Empty: the engine's own account, as Flux.",
            lockdown="default",
        ),
    ] = ""
    no_cross_namespace_refs: Annotated[
        bool,
        About(
            "boolean",
            "Tenancy",
            "Refuse references to sources of other namespaces.",
            "Off, as Flux; repositories rely on it.",
            lockdown=True,
        ),
    ] = False

    leader_elect: Annotated[
        bool,
        About(
            "boolean",
            "Leases",
            "Act only while holding the leases.",
            "On: two engines never run. Off is for a cluster that nothing else can reach.",
        ),
    ] = True
    lease_names: Annotated[
        tuple[str, ...],
        About(
            "list",
            "Leases",
            "Leases to hold, all of them, in the runtime namespace.",
            "Those of Flux's controllers for the kinds that run here, so that either Flux or gitwright acts.",
        ),
    ] = (meta.SOURCE_LEASE, meta.KUSTOMIZE_LEASE)
    lease_duration: Annotated[
        float,
        About(
            "duration",
            "Leases",
            "How long a lease is valid after its last renewal.",
            "As Flux.",
            "seconds",
            0.1,
        ),
    ] = 35.0
    lease_renew_interval: Annotated[
        float,
        About(
            "duration",
            "Leases",
            "How often a held lease is renewed.",
            "Three renewals may fail before another may take it; each is a write to the API server.",
            "seconds",
            0.01,
        ),
    ] = 10.0
    lease_retry_interval: Annotated[
        float,
        About(
            "duration",
            "Leases",
            "How often a lease that another holds, or that failed to renew, is tried.",
            "Short enough to take over quickly from a holder that gave it back.",
            "seconds",
            0.01,
        ),
    ] = 2.0

    kubectl: Annotated[
        str,
        About(
            "path",
            "Build",
            "kubectl to build with.",
            "Empty: the one that is installed with gitwright, then the one on PATH.",
        ),
    ] = ""
    git: Annotated[str, About("path", "Build", "git to fetch with.", "The one on PATH.")] = "git"
    render_workers: Annotated[
        int,
        About(
            "integer",
            "Build",
            "Builds at the same time, each a process.",
            "One per core of the installed pod.",
            "processes",
            1,
            256,
        ),
    ] = 2
    render_timeout: Annotated[
        float,
        About(
            "duration",
            "Build",
            "Time limit of one build.",
            "A large overlay takes seconds; a loop must not hold a worker (S3).",
            "seconds",
            0.1,
        ),
    ] = 60.0
    render_memory: Annotated[
        int,
        About(
            "bytes",
            "Build",
            "Address space that one build may use.",
            "Go reserves far more than it uses; a hostile kustomization fails its own object only (S3).",
            "bytes",
            2147483648,
        ),
    ] = 3 * 1024**3
    render_remember: Annotated[
        int,
        About(
            "integer",
            "Build",
            "Builds that are remembered.",
            "More than the Kustomizations of a large cluster, so that a commit builds only what it touches.",
            "builds",
            0,
        ),
    ] = 4096
    override_manager: Annotated[
        tuple[str, ...],
        About(
            "list",
            "Build",
            "Field managers whose fields an apply takes over, besides kubectl's.",
            "Empty, as Flux.",
        ),
    ] = ()

    drift_window: Annotated[
        float,
        About(
            "duration",
            "Drift",
            "The third repair of one field within this time waits, and each one after it longer.",
            "A person edits once or twice; what edits more often is a program that edits back.",
            "seconds",
            0,
        ),
    ] = 60.0
    drift_backoff: Annotated[
        float,
        About(
            "duration",
            "Drift",
            "First delay of such a repair; it doubles up to the interval of the Kustomization.",
            "Long against one apply, short against an interval.",
            "seconds",
            0.001,
        ),
    ] = 10.0

    log_level: Annotated[
        str,
        About(
            "text",
            "Output",
            "Least severity that is logged.",
            "As Flux.",
            choices=("debug", "info", "warning", "error"),
        ),
    ] = "info"
    log_encoding: Annotated[
        str,
        About(
            "text",
            "Output",
            "How log lines are written: one JSON object each, or text for people.",
            "As Flux.",
            choices=("json", "text"),
        ),
    ] = "json"
    events_burst: Annotated[
        int,
        About(
            "integer",
            "Output",
            "Events about one object that may be sent at once.",
            "As Kubernetes' own recorder.",
            "events",
            1,
        ),
    ] = 25
    events_refill: Annotated[
        float,
        About(
            "duration",
            "Output",
            "Time after which one more event about that object may be sent.",
            "As Kubernetes' own recorder.",
            "seconds",
            0.001,
        ),
    ] = 300.0

    def gate(self, name: str) -> bool:
        """Tell whether a feature is on.

        Raises:
            KeyError: there is no such feature.
        """
        given = dict(read_gate(text) for text in self.feature_gates)
        default = next((gate.default for gate in GATES if gate.name == name), None)
        if default is None:
            raise KeyError(name)
        return given.get(name, default)

    @property
    def strict_substitutions(self) -> bool:
        """Whether a variable without value and default fails the build."""
        return self.gate("StrictPostBuildSubstitutions")

    def artifact_base_url(self, host: str, port: int) -> str:
        """Give the address that artifact paths are appended to, ending in a slash.

        Args:
            host: host that artifacts are served on.
            port: port that they are really served on.
        """
        advertised = self.storage_adv_addr or f"{bracketed(host)}:{port}"
        return f"http://{advertised}/"


def _table() -> tuple[Option, ...]:
    hints = typing.get_type_hints(Settings, include_extras=True)
    return tuple(
        Option(field.name, typing.cast(Setting, field.default), hints[field.name].__metadata__[0])
        for field in fields(Settings)
    )


OPTIONS: Final = _table()
_BY_NAME: Final = {option.name: option for option in OPTIONS}


def option(name: str) -> Option:
    """Find an option by name or attribute.

    Raises:
        SettingError: there is none.
    """
    found = _BY_NAME.get(name.replace("_", "-"))
    if found is None:
        raise SettingError(
            "there is no such option", place=f"--{name}", hint="`gitwright run --help` lists them"
        )
    return found
