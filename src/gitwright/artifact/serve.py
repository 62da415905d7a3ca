"""Which file an artifact's path names.

Role in the flow: the HTTP server asks here before it opens anything. Knows
paths and their secret part; knows nothing of HTTP. A path without the right
secret part names nothing, the same as a path to nothing (S34).
"""

from __future__ import annotations

import hmac
from pathlib import Path

from gitwright.artifact.store import Store


def resolve(store: Store, path: str) -> Path | None:
    """Give the archive that a request's path names, or None.

    Args:
        store: where artifacts lie.
        path: `<kind>/<namespace>/<name>/<secret>/<file>`, decoded, with or without a leading slash.
    """
    parts = path.lstrip("/").split("/")
    if len(parts) != 5 or not all(parts) or any(part.startswith(".") for part in parts):
        return None
    if "\\" in path or "\0" in path or not path.isascii():
        return None
    kind, namespace, name, secret, file = parts
    if not file.endswith(".tar.gz"):
        return None
    if not hmac.compare_digest(store.secret_part(kind, namespace, name, file), secret):
        return None
    target = store.root / kind / namespace / name / file
    # A link in the folder was not made by us.
    return target if target.is_file() and not target.is_symlink() else None
