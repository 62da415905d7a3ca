"""What goes wrong in a build, said with file, field and what was expected.

Role in the flow: raised by every module of the package; knows none of them.
"""

from __future__ import annotations

from gitwright.core.errors import Stalled


class KustomizeError(Stalled):
    """The kustomization does not build; only a change of its files can help.

    Args:
        message: what is wrong; kustomize's own words first where it has some.
        place: file (and line) it is about, from the root of the tree.
        detail: the field and what was expected there.
        hint: what to do about it.
    """

    reason = "BuildFailed"

    def __init__(self, message: str, *, place: str = "", detail: str = "", hint: str = "") -> None:
        super().__init__(message, place=place, detail=detail, hint=hint)

    def at(self, place: str, detail: str = "") -> KustomizeError:
        """Give the same error with place and detail, where it has none of its own."""
        return KustomizeError(
            self.message, place=self.place or place, detail=self.detail or detail, hint=self.hint
        )
