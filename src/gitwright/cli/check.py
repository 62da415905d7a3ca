"""`gitwright check`: whether a cluster is fit for the engine, and whether the engine is well.

Role in the flow: asks the cluster and turns what it says into findings, by the pure
functions below. Source: Flux's `check`; the leases of design, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

import click

from gitwright import health
from gitwright.api import manifests, meta
from gitwright.api.kinds import KINDS, Kind
from gitwright.cli.connect import connected
from gitwright.cli.failures import NO, YES
from gitwright.cli.kinds import nested, seconds_of
from gitwright.cli.options import Session, Verb, in_session, output_option
from gitwright.cli.output import Console, Format, as_json, human_age
from gitwright.core import conditions
from gitwright.core.objects import GVK, JSON
from gitwright.formats import semver, yaml
from gitwright.kube.client import Client
from gitwright.kube.errors import NotFound

# Source: the least version that Flux 2.9 accepts.
KUBERNETES: Final = ">=1.33.0-0"
CRD: Final = GVK("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
LEASE: Final = GVK("coordination.k8s.io", "v1", "Lease")
DEPLOYMENT: Final = GVK("apps", "v1", "Deployment")
OURS: Final = f"{meta.PART_OF_LABEL}={meta.PRODUCT}"
_SUFFIX: Final = "-leader-election"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        check: what was looked at: `kubernetes`, `crds`, `leases` or `engine`.
        level: `ok`; `warning`, which a person should know; `failure`.
        message: what was found.
        hint: what to do about it, or empty.
    """

    check: str
    level: Literal["ok", "warning", "failure"]
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, as `leases` reads it.

    Args:
        lease: name of the lease.
        identity: who holds it, or empty.
        live: it has been renewed in time.
        left: seconds until it runs out unless it is renewed.
    """

    lease: str
    identity: str
    live: bool
    left: float = 0.0

    @property
    def is_flux(self) -> bool:
        """Whether a pod of Flux's own controller holds it: pods carry the name of their Deployment."""
        return self.live and self.identity.startswith(self.lease.removesuffix(_SUFFIX) + "-")


@click.command(cls=Verb, name="check", short_help="Check the cluster and the installation.")
@click.option("--pre", is_flag=True, help="Only what must be so before an installation.")
@output_option("table", "json", "yaml")
@in_session
def check(session: Session, pre: bool, output: Format) -> int:
    r"""Check the cluster and the installation; the exit code is 1 when a check fails.

    \b
    Examples:
      gitwright check --pre
      gitwright check -o json
    """
    return session.run(_check(session, pre, output))


async def _check(session: Session, pre: bool, output: Format) -> int:
    say = session.console if output == "table" else None
    async with connected(session) as client:
        findings = _report(say, "checking prerequisites", await _kubernetes(client))
        if not pre:
            namespace = session.options.namespace
            holders, leases = await _leases(client, namespace, session.now())
            findings += _report(say, "checking crds", await _crds(client))
            findings += _report(say, "checking leases", leases)
            findings += _report(say, "checking engine", await _engine(client, namespace, holders))
    passed = not any(finding.level == "failure" for finding in findings)
    if say is None:
        value = {"passed": passed, "findings": [asdict(finding) for finding in findings]}
        session.console.data(as_json(value) if output == "json" else yaml.dump(value).rstrip("\n"))
    elif passed:
        say.success("prerequisites checks passed" if pre else "all checks passed")
    else:
        say.failure("check failed")
    return YES if passed else NO


def _report(console: Console | None, title: str, findings: Sequence[Finding]) -> list[Finding]:
    if console is not None:
        console.action(title)
        for finding in findings:
            if finding.level == "ok":
                console.success(finding.message)
            elif finding.level == "warning":
                console.warning(finding.message, finding.hint)
            else:
                console.failure(finding.message, finding.hint)
    return list(findings)


async def _kubernetes(client: Client) -> list[Finding]:
    return [kubernetes(str((await client.version()).get("gitVersion", "")))]


def kubernetes(version: str) -> Finding:
    """Judge the version of Kubernetes, such as `v1.37.2`."""
    try:
        parsed = semver.Version.parse(version)
    except ValueError:
        return Finding("kubernetes", "failure", f"Kubernetes version {version!r} can't be determined")
    if not semver.Constraint.parse(KUBERNETES).allows(parsed):
        return Finding(
            "kubernetes",
            "failure",
            f"Kubernetes version {version} does not match {KUBERNETES}",
            "upgrade the cluster",
        )
    return Finding("kubernetes", "ok", f"Kubernetes {parsed} {KUBERNETES}")


async def _crds(client: Client) -> list[Finding]:
    findings = []
    for kind in KINDS:
        try:
            obj = await client.get(CRD, f"{kind.plural}.{kind.gvk.group}")
        except NotFound:
            obj = None
        findings.append(crd(kind, obj))
    return findings


def crd(kind: Kind, obj: JSON | None) -> Finding:
    """Judge the CustomResourceDefinition of a kind; None when the cluster has none."""
    name = f"{kind.plural}.{kind.gvk.group}"
    if obj is None:
        return Finding("crds", "failure", f"{name} not found", "install it with `gitwright install`")
    served = [item["name"] for item in nested(obj, "spec", "versions") or [] if item.get("served")]
    if kind.gvk.version not in served:
        return Finding(
            "crds",
            "failure",
            f"{name} does not serve version {kind.gvk.version} (served: {', '.join(served) or 'none'})",
            "bring the definition up to date with `gitwright install`",
        )
    if not conditions.is_true(nested(obj, "status", "conditions") or [], "Established"):
        return Finding(
            "crds",
            "failure",
            f"{name} is not established",
            f"see `kubectl describe crd {name}` for the reason",
        )
    old = [v for v in nested(obj, "status", "storedVersions") or [] if v != kind.gvk.version]
    if old:
        return Finding(
            "crds",
            "warning",
            f"{name}/{kind.gvk.version}: objects may still be stored as {', '.join(old)}",
            "migrate them with `flux migrate` before a version is removed",
        )
    return Finding("crds", "ok", f"{name}/{kind.gvk.version}")


async def _leases(client: Client, namespace: str, now: float) -> tuple[list[Holder], list[Finding]]:
    holders, findings = [], []
    for name in manifests.LEASES:
        try:
            obj = await client.get(LEASE, name, namespace)
        except NotFound:
            obj = None
        holder, finding = lease(name, obj, now)
        holders.append(holder)
        findings.append(finding)
    return holders, findings


def lease(name: str, obj: JSON | None, now: float) -> tuple[Holder, Finding]:
    """Judge a lease: who acts, and whether that one still does.

    Args:
        name: its name.
        obj: the Lease, or None when there is none.
        now: the time, in seconds since the epoch.
    """
    identity = str(nested(obj or {}, "spec", "holderIdentity") or "")
    renewed = seconds_of(nested(obj or {}, "spec", "renewTime"))
    duration = float(nested(obj or {}, "spec", "leaseDurationSeconds") or 0)
    if not identity or renewed is None:
        finding = Finding(
            "leases", "warning", f"{name}: held by nobody", "start an engine, else nothing acts"
        )
        return Holder(name, "", False), finding
    since = human_age(max(0.0, now - renewed))
    if renewed + duration < now:
        message = f"{name}: last held by {identity}, not renewed for {since}"
        return Holder(name, identity, False), Finding("leases", "warning", message, "start an engine")
    holder = Holder(name, identity, True, renewed + duration - now)
    message = f"{name}: held by {identity}, renewed {since} ago"
    if holder.is_flux:
        controller = name.removesuffix(_SUFFIX)
        return holder, Finding(
            "leases",
            "warning",
            f"{message}; Flux's controller acts, gitwright waits",
            f"to hand over, scale Flux's {controller} to 0",
        )
    return holder, Finding("leases", "ok", message)


async def _engine(client: Client, namespace: str, holders: Sequence[Holder]) -> list[Finding]:
    deployments = (await client.list(DEPLOYMENT, namespace, labels=OURS)).items
    if not deployments:
        return [missing(namespace, holders)]
    return [finding for obj in deployments for finding in engine(obj)]


def missing(namespace: str, holders: Sequence[Holder]) -> Finding:
    """Judge a namespace without the engine's Deployment: one that runs elsewhere may hold the leases."""
    message = f"no engine found in the '{namespace}' namespace with the label selector '{OURS}'"
    outside = sorted({holder.identity for holder in holders if holder.live and not holder.is_flux})
    if outside:
        return Finding("engine", "warning", f"{message}; {', '.join(outside)} acts from elsewhere")
    return Finding("engine", "failure", message, "install it with `gitwright install --image IMAGE`")


def engine(obj: JSON) -> list[Finding]:
    """Judge a Deployment of the engine."""
    name = str(nested(obj, "metadata", "name"))
    typed = {**obj, "apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind}
    state = health.assess(typed)
    images = [str(item.get("image")) for item in nested(obj, "spec", "template", "spec", "containers") or []]
    if state.status == "Current":
        return [Finding("engine", "ok", f"{name}: deployment ready ({', '.join(images)})")]
    namespace = nested(obj, "metadata", "namespace")
    return [
        Finding(
            "engine",
            "failure",
            f"{name}: deployment not ready: {state.message}",
            f"see `kubectl -n {namespace} describe deployment {name}` and the logs of its pods",
        )
    ]
