"""How the render room words what goes wrong.

Role in the flow: one place for the prefix that Flux gives build errors and for the stand-in
of the temporary folder that Flux's texts name. It must not know a real path of this machine.
"""

from __future__ import annotations

from gitwright.core.errors import Stalled

PREFIX = "kustomize build failed"


class BuildError(Stalled):
    """The repository does not build; only a commit or a change of the spec can help."""

    reason = "BuildFailed"


def folder(digest: str) -> str:
    """Give the folder that messages name where Flux names its temporary one.

    The same inputs give the same name, so an error that stays is one message, not one per try;
    and the real folder, which is gone when anyone reads this, is told to nobody.

    Args:
        digest: hexadecimal digest of the build's inputs.
    """
    return f"/tmp/kustomization-{int(digest[:12], 16) % 10**10:010d}"  # noqa: S108 - a text, never opened


def shown(root: str, path: str) -> str:
    """Give a path of the tree as it reads below the folder of `folder`."""
    return f"{root}/{path}" if path else root
