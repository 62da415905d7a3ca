"""What kustomize would fetch instead of read.

Role in the flow: asked only about paths that lead nowhere in the tree; the answer makes the
message, since nothing is ever fetched. Source: kustomize api/internal/git/repospec.
"""

from __future__ import annotations

import re

_REMOTE = re.compile(
    r"\s*(?:git::|gh:|https?:|file:|[a-z][a-z0-9+.-]*://|github\.com[:/]|[a-z][a-z0-9._-]*@|.*\?ref=)",
    re.IGNORECASE,
)


def is_remote(path: str) -> bool:
    """Tell whether a path reads as the address of something elsewhere."""
    return _REMOTE.match(path) is not None
