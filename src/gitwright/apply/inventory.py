"""The inventory of a Kustomization, in Flux's format.

Pure: from keys to status entries and back. An entry that cannot be read is kept as
it is and never deleted, so that a damaged status loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gitwright.core.objects import JSON, ObjectKey, apply_rank, inventory_id, parse_inventory_id


@dataclass(frozen=True, slots=True)
class Inventory:
    """Objects by identity with the API version last used for each.

    Args:
        versions: key to API version, without group, in the order of application.
        unread: entries of the status whose ids could not be read.
    """

    versions: Mapping[ObjectKey, str]
    unread: tuple[JSON, ...] = ()

    @classmethod
    def read(cls, status: Mapping[str, Any]) -> Inventory:
        """Read `status.inventory` of a Kustomization; absent means empty."""
        versions: dict[ObjectKey, str] = {}
        unread = []
        for entry in (status.get("inventory") or {}).get("entries") or []:
            try:
                versions[parse_inventory_id(str(entry["id"]))] = str(entry["v"])
            except (KeyError, ValueError):
                unread.append(dict(entry))
        return cls(versions, tuple(unread))

    @classmethod
    def of(cls, entries: Iterable[tuple[ObjectKey, str]], unread: tuple[JSON, ...] = ()) -> Inventory:
        """Make one of keys and versions, in the order given."""
        return cls(dict(entries), unread)

    def write(self) -> JSON:
        """Give the value of `status.inventory`."""
        entries: list[JSON] = [
            {"id": inventory_id(key), "v": version} for key, version in self.versions.items()
        ]
        return {"entries": [*entries, *self.unread]}

    def with_all(self, more: Mapping[ObjectKey, str]) -> Inventory:
        """Give the union; `more` decides the versions of what both have."""
        return Inventory({**self.versions, **more}, self.unread)

    def stale(self, wanted: Iterable[ObjectKey]) -> tuple[ObjectKey, ...]:
        """Give what is in this inventory and no longer wanted, in the order of deletion."""
        kept = set(wanted)
        gone = [key for key in self.versions if key not in kept]
        return tuple(sorted(gone, key=apply_rank, reverse=True))
