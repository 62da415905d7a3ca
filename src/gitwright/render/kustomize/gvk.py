"""Group, version and kind as kustomize names and selects them. Knows no object."""

from __future__ import annotations

from typing import NamedTuple


class Gvk(NamedTuple):
    """Group, version and kind; an empty part of a selector selects anything."""

    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        """The `apiVersion` field."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def selected_by(self, selector: Gvk) -> bool:
        """Tell whether every part that the selector gives is this one's."""
        return (
            (not selector.group or selector.group == self.group)
            and (not selector.version or selector.version == self.version)
            and (not selector.kind or selector.kind == self.kind)
        )

    def __str__(self) -> str:
        return f"{self.kind or '[noKind]'}.{self.version or '[noVer]'}.{self.group or '[noGrp]'}"
