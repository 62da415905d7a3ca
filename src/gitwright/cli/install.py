"""`gitwright install`: put the engine into a cluster, or print what that would take."""

from __future__ import annotations

import secrets
from typing import Final

import click

from gitwright import __version__, health
from gitwright.api import manifests, meta
from gitwright.cli.check import CRD, DEPLOYMENT
from gitwright.cli.connect import connected, until
from gitwright.cli.failures import YES, Negative
from gitwright.cli.kinds import nested
from gitwright.cli.options import Session, Verb, in_session
from gitwright.core import conditions
from gitwright.core.errors import Stalled
from gitwright.core.objects import JSON, gvk_of, key_of
from gitwright.formats import yaml
from gitwright.kube.client import Client
from gitwright.kube.errors import NotFound

_FLUX: Final = f"{meta.PART_OF_LABEL}=flux"
_CONTROLLERS: Final = ("source-controller", "kustomize-controller")


@click.command(cls=Verb, name="install", short_help="Install the engine in a cluster.")
@click.option("--image", required=True, metavar="IMAGE", help="Image of the engine, with tag or digest.")
@click.option("--export", "export_only", is_flag=True, help="Print the manifests and touch no cluster.")
@click.option("--lockdown", is_flag=True, help="With every strict setting, and the least rights.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until the engine is ready.")
@in_session
def install(session: Session, image: str, export_only: bool, lockdown: bool, wait: bool) -> int:
    r"""Install the engine in a cluster, or bring an installation up to date.

    Custom resource definitions and a namespace that something else owns are left as
    they are. Beside Flux's own controllers the engine waits until they let go of
    their leases.

    \b
    Examples:
      gitwright install --image registry.example.com/gitwright:v0.1.0
      gitwright install --image registry.example.com/gitwright:v0.1.0 --export > gitwright.yaml
    """
    objects = manifests.installation(
        image=image,
        namespace=session.options.namespace,
        version=__version__,
        lockdown=lockdown,
        artifact_key=secrets.token_hex(32),
        metrics_token=secrets.token_urlsafe(32),
    )
    if export_only:
        return _export(session, objects)
    gone = manifests.superseded(session.options.namespace, lockdown)
    return session.run(_install(session, objects, gone, wait))


def _export(session: Session, objects: list[JSON]) -> int:
    for obj in objects:
        session.console.data("---\n" + yaml.dump(obj).rstrip("\n"))
    for obj in objects:
        if obj["kind"] == "Secret":
            name = f"Secret/{obj['metadata']['namespace']}/{obj['metadata']['name']}"
            session.console.warning(
                f"{name} holds keys made at random just now, new ones each time",
                "encrypt it before it goes to Git; changed keys only change the addresses of artifacts",
            )
    return YES


async def _install(session: Session, objects: list[JSON], gone: list[JSON], wait: bool) -> int:
    console, namespace = session.console, session.options.namespace
    async with connected(session) as client:
        await _warn_of_flux(session, client)
        console.action(f"installing components in {namespace} namespace")
        crds = [obj for obj in objects if gvk_of(obj) == CRD]
        for obj in crds:
            await _put(session, client, obj)
        for obj in crds:
            await until(session, client, CRD, "", obj["metadata"]["name"], _established, _conditions)
        for obj in objects:
            if gvk_of(obj) != CRD:
                await _put(session, client, obj)
        for obj in gone:
            await _remove(session, client, obj)
        if wait:
            for obj in objects:
                if gvk_of(obj) == DEPLOYMENT:
                    await _wait(session, client, obj["metadata"]["name"])
    console.success("install finished")
    return YES


async def _warn_of_flux(session: Session, client: Client) -> None:
    namespace = session.options.namespace
    found = (await client.list(DEPLOYMENT, namespace, labels=_FLUX)).items
    names = [str(obj["metadata"]["name"]) for obj in found if nested(obj, "spec", "replicas") != 0]
    running = [name for name in _CONTROLLERS if name in names]
    if running:
        verb = "run" if len(running) > 1 else "runs"
        session.console.warning(
            f"Flux's {' and '.join(running)} {verb} in {namespace} namespace; "
            "both share the leases, so gitwright waits until they let go",
            f"to hand over, run `kubectl -n {namespace} scale deployment {' '.join(running)} --replicas 0`",
        )


async def _put(session: Session, client: Client, obj: JSON) -> None:
    """Apply one object, unless what is there is to be kept."""
    gvk, key = gvk_of(obj), key_of(obj)
    try:
        live: JSON | None = await client.get(gvk, key.name, key.namespace)
    except NotFound:
        live = None
    if live is not None:
        reason = kept(obj, live)
        if reason:
            session.console.success(f"{key.subject} left as it is ({reason})")
            return
        obj = with_keys_of(obj, live)
    answer = await client.apply(obj, gvk, key.name, key.namespace, field_manager=meta.INSTALL_MANAGER)
    session.console.success(f"{key.subject} {_done(live, answer)}")


async def _remove(session: Session, client: Client, obj: JSON) -> None:
    """Take away what only the other profile has: rights that lockdown must not leave behind."""
    gvk, key = gvk_of(obj), key_of(obj)
    try:
        await client.delete(gvk, key.name, key.namespace)
    except NotFound:
        return
    session.console.success(f"{key.subject} deleted, it belongs to the other profile")


def kept(wanted: JSON, live: JSON) -> str:
    """Give the reason to keep a live object as it is; empty when it is to be applied.

    A namespace or a definition that is not ours may be somebody's whole installation.

    Raises:
        Stalled: the object belongs to somebody else, and the engine needs another.
    """
    key = key_of(wanted)
    owner = str(nested(live, "metadata", "labels", meta.PART_OF_LABEL) or "")
    if owner == meta.PRODUCT:
        return ""
    if key.kind == "Namespace":
        return f"part of {owner}" if owner else "it was there before"
    if key.kind == "CustomResourceDefinition":
        return _kept_definition(wanted, live, owner)
    if owner:
        raise Stalled(
            f"{key.subject} is part of {owner}",
            subject=key.subject,
            place=f"metadata.labels[{meta.PART_OF_LABEL}]",
            hint="install gitwright in another namespace, or remove that object first",
        )
    return ""


def with_keys_of(wanted: JSON, live: JSON) -> JSON:
    """Give a Secret of the installation the keys that are in use already; anything else as it is."""
    if gvk_of(wanted).kind != "Secret":
        return wanted
    return {**wanted, "data": {**wanted["data"], **(live.get("data") or {})}}


def _kept_definition(wanted: JSON, live: JSON, owner: str) -> str:
    needed = {version["name"] for version in wanted["spec"]["versions"]}
    served = {version["name"] for version in live["spec"]["versions"] if version.get("served")}
    lacking = ", ".join(sorted(needed - served))
    if not lacking:
        return f"part of {owner}" if owner else "it was there before"
    key = key_of(wanted)
    raise Stalled(
        f"{key.subject} does not serve {lacking}",
        subject=key.subject,
        place="spec.versions",
        hint=f"bring {owner or 'what installed it'} up to date first; gitwright does not change it",
    )


def _done(live: JSON | None, answer: JSON) -> str:
    if live is None:
        return "created"
    same = live["metadata"]["resourceVersion"] == answer["metadata"]["resourceVersion"]
    return "unchanged" if same else "configured"


def _established(obj: JSON | None) -> bool | None:
    listed = nested(obj or {}, "status", "conditions") or []
    return conditions.is_true(listed, "Established") or None


def _conditions(obj: JSON) -> str:
    listed = nested(obj, "status", "conditions") or []
    return "; ".join(str(item.get("message")) for item in listed if item.get("status") != "True")


async def _wait(session: Session, client: Client, name: str) -> None:
    console, namespace = session.console, session.options.namespace
    console.wait(f"waiting for {name} to be ready")
    hint = f"see `kubectl -n {namespace} describe deployment {name}` and the logs of its pods"
    console.progress.hint = f"give it longer with --timeout, or {hint}"

    def decide(obj: JSON | None) -> bool | None:
        state = health.assess(obj) if obj is not None else None
        if state is not None and state.status == "Failed":
            raise Negative(
                f"{name}: deployment not ready: {state.message}",
                subject=f"Deployment/{namespace}/{name}",
                hint=hint,
            )
        return True if state is not None and state.status == "Current" else None

    with console.waiting():
        await until(
            session, client, DEPLOYMENT, namespace, name, decide, lambda obj: health.assess(obj).message
        )
    console.success(f"{name}: deployment ready")
