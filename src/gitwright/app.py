"""The composition root: from settings to a running engine.

Role in the flow: `gitwright run` and the tests call `run`. It makes every part once,
hands each what it needs by argument, and wires watches to queues. It decides nothing.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from gitwright import __version__
from gitwright.api import meta
from gitwright.apply.engine import Engine
from gitwright.apply.estate import Estate
from gitwright.artifact.serve import resolve
from gitwright.artifact.store import Store
from gitwright.controllers.building import Builder
from gitwright.controllers.crew import KIND as KUSTOMIZATION
from gitwright.controllers.crew import Crew
from gitwright.controllers.crew import Options as KustomizationOptions
from gitwright.controllers.desk import Clocks, Desk, keep
from gitwright.controllers.git_repository import KIND as GIT
from gitwright.controllers.git_repository import GitRepositoryReconciler
from gitwright.controllers.git_repository import Options as GitOptions
from gitwright.controllers.kustomization import KustomizationReconciler
from gitwright.controllers.wiring import Wiring
from gitwright.core.objects import GVK, JSON
from gitwright.kube import config as kubeconfig
from gitwright.kube.client import Client
from gitwright.kube.cluster import Cluster
from gitwright.kube.informer import Informer
from gitwright.notify.events import Recorder
from gitwright.observe import logging
from gitwright.observe.metrics import Metrics
from gitwright.observe.redact import Redactor
from gitwright.render import Renderer
from gitwright.render.child import ChildLimits
from gitwright.runtime.controller import Controller, Reconciler, request_queue
from gitwright.runtime.lease import KubeLeaseApi, Leases
from gitwright.runtime.manager import Background, Manager
from gitwright.runtime.server import Server, watch_loop
from gitwright.settings import Settings, split_address
from gitwright.transport.egress import Egress
from gitwright.transport.git import Mirrors
from gitwright.transport.git_cli import Programs
from gitwright.transport.private import PrivateFolder

# Seconds that a Git mirror is kept without use.
MIRRORS_KEPT = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What all parts share.

    Args:
        settings: the engine's settings.
        client: speaks to the cluster as the engine.
        metrics: counts.
        redactor: knows the secrets that nothing may show.
        log: where the engine tells what it does.
        clocks: time and chance.
        identity: name of this process.
    """

    settings: Settings
    client: Client
    metrics: Metrics
    redactor: Redactor
    log: logging.Log
    clocks: Clocks
    identity: str


async def run(settings: Settings, stop: asyncio.Event, environment: Mapping[str, str] | None = None) -> int:
    """Run the engine until it is told to stop.

    Args:
        settings: what to do and how.
        stop: set to end in order.
        environment: variables for the kubeconfig, git and proxies; the process' own when None.

    Returns:
        0 after an orderly end.

    Raises:
        GitwrightError: the cluster or the storage cannot be used at all.
    """
    given = dict(os.environ if environment is None else environment)
    redactor = Redactor()
    encoding: Literal["json", "text"] = "text" if settings.log_encoding == "text" else "json"
    logging.configure(settings.log_level, encoding, sys.stderr, redactor)
    log = logging.get("gitwright")
    metrics = Metrics.create()
    connection = kubeconfig.load(settings.kubeconfig or None, settings.context or None, given)
    host = connection.server.partition("://")[2]

    def observe(method: str, _resource: str, code: int, seconds: float) -> None:
        metrics.request(method, host, str(code), seconds)

    async with await Client.open(
        connection,
        user_agent=f"gitwright/{__version__}",
        limit=settings.kube_api_concurrency,
        observe=observe,
    ) as client:
        parts = Parts(settings, client, metrics, redactor, log, _clocks(settings), _identity())
        await _serve(parts, stop, given)
    return 0


async def _serve(parts: Parts, stop: asyncio.Event, environment: Mapping[str, str]) -> None:
    settings = parts.settings
    root = Path(settings.storage_path)
    await asyncio.to_thread(root.mkdir, mode=0o700, parents=True, exist_ok=True)
    key = await asyncio.to_thread(_artifact_key, settings, root)
    token = await asyncio.to_thread(_token, settings)
    # The servers listen before what they show exists, because sources must not reach their ports.
    stored: list[Store] = []
    managed: list[Manager] = []
    files = _server(settings.storage_addr, files=lambda path: resolve(stored[0], path) if stored else None)
    health = _server(
        settings.health_addr,
        ready=lambda: managed[0].ready() if managed else (False, "starting"),
        metrics=parts.metrics if token else None,
        token=token,
    )
    async with files, health:
        store = Store(
            root / "artifacts",
            base_url=settings.artifact_base_url(split_address(settings.storage_addr)[0], files.port),
            key=key,
            clock=time.time,
            retention_ttl=settings.artifact_retention_ttl,
            retention_records=settings.artifact_retention_records,
        )
        stored.append(store)
        scratch = await asyncio.to_thread(PrivateFolder.claim, _memory(root))
        ports = frozenset({files.port, health.port})
        mirrors = _mirrors(settings, root, scratch.path, key, environment, ports)
        cluster = Cluster("local", parts.client)
        try:
            parts.log.info(
                "gitwright runs",
                version=__version__,
                server=parts.client.config.server,
                healthPort=health.port,
                artifactPort=files.port,
            )
            await _run_engine(parts, cluster, store, mirrors, scratch.path, managed, stop)
        finally:
            await cluster.close()
            await mirrors.close()
            await asyncio.to_thread(scratch.release)


async def _run_engine(
    parts: Parts,
    cluster: Cluster,
    store: Store,
    mirrors: Mirrors,
    scratch: Path,
    managed: list[Manager],
    stop: asyncio.Event,
) -> None:
    settings = parts.settings
    recorders = {
        KUSTOMIZATION: _recorder(parts, meta.APPLY_MANAGER),
        GIT: _recorder(parts, meta.SOURCE_MANAGER),
    }
    wiring = Wiring()
    desk = Desk(
        parts.client,
        store=store,
        recorders=recorders,
        again=wiring.again,
        clocks=parts.clocks,
        redactor=parts.redactor,
        log=parts.log,
    )
    builder = Builder(_renderer(parts, scratch), parts.redactor, strict=settings.strict_substitutions)
    namespace = "" if settings.watch_all_namespaces else settings.runtime_namespace
    # Whichever Kustomizations are run, what they apply may be in any namespace.
    estate = Estate(cluster, extra=settings.override_manager)
    engine = Engine(estate, settings.concurrent_ssa)
    reconciler = KustomizationReconciler(Crew(desk, engine, _kustomization_options(settings)), builder)
    sources = GitRepositoryReconciler(
        desk,
        parts.client,
        mirrors=mirrors,
        store=store,
        redactor=parts.redactor,
        options=GitOptions(reader_account=settings.default_service_account),
        restored=wiring.restored,
    )
    kustomizations = _controller(parts, "kustomization", reconciler, settings.concurrent, KUSTOMIZATION)
    repositories = _controller(parts, "gitrepository", sources, settings.concurrent_sources, GIT)
    wiring.connect(kustomizations, repositories, builder, store, reconciler)

    async def prepare() -> None:
        if not wiring.watching:
            informers = {gvk: await _own(cluster, gvk, namespace, settings) for gvk in (GIT, KUSTOMIZATION)}
            for gvk, informer in informers.items():
                desk.attach(gvk, informer)
            wiring.watch(informers[KUSTOMIZATION], informers[GIT], estate)
        await wiring.synced()

    manager = Manager(
        controllers=(repositories, kustomizations),
        log=parts.log,
        background=[
            *(Background(f"events {gvk.kind}", recorder.run) for gvk, recorder in recorders.items()),
            Background("loop watch", partial(watch_loop, parts.metrics, parts.log)),
            Background("mirror cleanup", partial(_clean_mirrors, mirrors)),
        ],
        leases=_leases(parts) if settings.leader_elect else None,
        prepare=prepare,
        grace=settings.graceful_shutdown_timeout,
    )
    managed.append(manager)
    await manager.run(stop)
    for recorder in recorders.values():
        await recorder.drain()


async def _clean_mirrors(mirrors: Mirrors) -> None:
    """Remove mirrors that no source has used for long; every source has run many times by then."""
    while True:
        await asyncio.sleep(MIRRORS_KEPT)
        await mirrors.collect(MIRRORS_KEPT)


def _server(
    address: str,
    *,
    files: Callable[[str], Path | None] | None = None,
    ready: Callable[[], tuple[bool, str]] | None = None,
    metrics: Metrics | None = None,
    token: str = "",
) -> Server:
    host, port = split_address(address)
    return Server(host=host, port=port, files=files, ready=ready, metrics=metrics, token=token)


async def _own(cluster: Cluster, gvk: GVK, namespace: str, settings: Settings) -> Informer[JSON]:
    return await cluster.informer(
        gvk, keep, namespace=namespace, labels=settings.watch_label_selector, view="own"
    )


def _clocks(settings: Settings) -> Clocks:
    share = settings.interval_jitter_percentage / 100
    chance = random.Random()  # noqa: S311 - spreads intervals, decides nothing
    return Clocks(
        monotonic=time.monotonic,
        wall=lambda: datetime.now(UTC),
        jitter=lambda seconds: seconds * (1 + chance.uniform(-share, share)),
    )


def _identity() -> str:
    return f"{socket.gethostname()}_{secrets.token_hex(8)}"


def _recorder(parts: Parts, component: str) -> Recorder:
    return Recorder(
        parts.client,
        component=component,
        instance=parts.identity,
        redactor=parts.redactor,
        log=parts.log,
        clock=parts.clocks.wall,
        monotonic=parts.clocks.monotonic,
        suffix=lambda: secrets.token_hex(8),
        burst=parts.settings.events_burst,
        refill=parts.settings.events_refill,
    )


def _controller(parts: Parts, name: str, reconciler: Reconciler, width: int, kind: GVK) -> Controller:
    settings = parts.settings
    return Controller(
        name,
        reconciler,
        concurrency=width,
        queue=request_queue(minimum=settings.min_retry_delay, maximum=settings.max_retry_delay),
        clock=parts.clocks.monotonic,
        metrics=parts.metrics,
        log=parts.log,
        kind=kind.kind,
        group=kind.group,
    )


def _leases(parts: Parts) -> Leases:
    settings = parts.settings
    return Leases(
        KubeLeaseApi(parts.client, settings.runtime_namespace),
        settings.lease_names,
        parts.identity,
        log=parts.log,
        metrics=parts.metrics,
        duration=settings.lease_duration,
        renew=settings.lease_renew_interval,
        retry=settings.lease_retry_interval,
        clock=parts.clocks.monotonic,
        wall=parts.clocks.wall,
    )


def _kustomization_options(settings: Settings) -> KustomizationOptions:
    return KustomizationOptions(
        default_service_account=settings.default_service_account,
        cross_namespace=not settings.no_cross_namespace_refs,
        dependency=settings.requeue_dependency,
        timeout_floor=settings.time_limit_floor,
        drift_window=settings.drift_window,
        drift_backoff=settings.drift_backoff,
        sees_all=settings.watch_all_namespaces and not settings.watch_label_selector,
    )


def _renderer(parts: Parts, scratch: Path) -> Renderer:
    settings = parts.settings
    return Renderer(
        kubectl=settings.kubectl or _kubectl(),
        workers=settings.render_workers,
        timeout=settings.render_timeout,
        scratch=scratch,
        remember=settings.render_remember,
        limits=ChildLimits(memory=settings.render_memory),
        observe=parts.metrics.built,
        clock=parts.clocks.monotonic,
    )


def _kubectl() -> str:
    """Find the kubectl that was installed with gitwright, else the one on PATH."""
    beside = Path(sys.executable).parent / "kubectl"
    return str(beside) if beside.exists() else "kubectl"


def _mirrors(
    settings: Settings,
    root: Path,
    private: Path,
    key: bytes,
    environment: Mapping[str, str],
    ports: frozenset[int],
) -> Mirrors:
    return Mirrors(
        root / "git",
        private=private,
        key=key,
        programs=Programs.of(environment, settings.git),
        egress=Egress(allow_loopback=settings.allow_loopback_sources, own_ports=ports),
    )


def _memory(root: Path) -> Path:
    """Give a folder in memory for what must not touch a disk, else one in the storage."""
    memory = Path("/dev/shm")  # noqa: S108 - private folders are made in it
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else root


def _artifact_key(settings: Settings, root: Path) -> bytes:
    """Read the key of artifact addresses; without a file of its own it is kept in the storage."""
    if settings.artifact_key_file:
        return Path(settings.artifact_key_file).read_bytes().strip()
    path = root / "artifact.key"
    if not path.exists() or not path.stat().st_size:
        # Whole or not at all: an engine killed in between must be able to start again.
        made = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_hex(32).encode())
        made.replace(path)
    return path.read_bytes().strip()


def _token(settings: Settings) -> str:
    if not settings.metrics_token_file:
        return ""
    return Path(settings.metrics_token_file).read_text().strip()
