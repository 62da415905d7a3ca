"""`gitwright version`: of this program, and of the engine in the cluster."""

from __future__ import annotations

import click

from gitwright import __version__
from gitwright.api import meta
from gitwright.cli.connect import connected
from gitwright.cli.failures import YES, advise
from gitwright.cli.options import Session, Verb, in_session, output_option
from gitwright.cli.output import Format, as_json
from gitwright.core.errors import GitwrightError
from gitwright.core.objects import GVK, JSON
from gitwright.formats import yaml

DEPLOYMENT = GVK("apps", "v1", "Deployment")
_PATIENCE = 10.0


@click.command(cls=Verb, name="version", short_help="Show the versions.")
@click.option("--client", "client_only", is_flag=True, help="Only of this program; asks no cluster.")
@output_option("yaml", "json")
@in_session
def version(session: Session, client_only: bool, output: Format) -> int:
    r"""Show the version of this program and of the engine in the cluster.

    Without a cluster that answers, the program's own is shown and a warning says why
    there is no more.

    \b
    Examples:
      gitwright version --client
      gitwright version -o json
    """
    found: dict[str, str] = {"gitwright": f"v{__version__}"}
    if not client_only:
        try:
            session.run(_ask(session, found), limit=_PATIENCE)
        except GitwrightError as error:
            advise(error)
            session.console.warning(f"the cluster's versions are unknown: {error.message}", error.hint)
    session.console.data(as_json(found) if output == "json" else yaml.dump(found).rstrip("\n"))
    return YES


async def _ask(session: Session, found: dict[str, str]) -> int:
    async with connected(session) as client:
        found["kubernetes"] = str((await client.version()).get("gitVersion", ""))
        labels = f"{meta.PART_OF_LABEL}={meta.PRODUCT}"
        deployments = await client.list(DEPLOYMENT, session.options.namespace, labels=labels)
        for deployment in deployments.items:
            found.update(images(deployment))
    return YES


def images(deployment: JSON) -> dict[str, str]:
    """Give the images of a Deployment's containers: name of the container to tag or digest of its image."""
    containers = deployment["spec"]["template"]["spec"].get("containers") or []
    return {f"engine/{item['name']}": tag_of(str(item.get("image", ""))) for item in containers}


def tag_of(image: str) -> str:
    """Give the tag of an image, else its digest, else `latest`, which a runtime would take."""
    name, at, digest = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    if colon:
        return tag
    return digest if at else "latest"
