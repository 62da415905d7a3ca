"""Sorts the requests of one user into what is counted and what is not.

Role: between the audit log and the tests and benchmarks that count requests. Knows no engine.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from dataclasses import dataclass

from tests.realcluster.audit import AuditLine


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests of one user, sorted.

    Args:
        requests: everything that is none of the following: reads of single objects, dry
            runs, writes of every kind, Events.
        lists: of collections, page by page.
        watches: when they began.
        leases: reads and writes of Leases.
        discovery: which kinds the server has; paths below /api and /apis that name no resource.
    """

    requests: tuple[AuditLine, ...]
    lists: tuple[AuditLine, ...]
    watches: tuple[AuditLine, ...]
    leases: tuple[AuditLine, ...]
    discovery: tuple[AuditLine, ...]

    @classmethod
    def of(cls, lines: Iterable[AuditLine]) -> Tally:
        """Sort requests."""
        sorted_: dict[str, list[AuditLine]] = collections.defaultdict(list)
        for line in lines:
            sorted_[_sort(line)].append(line)
        return cls(
            *(tuple(sorted_[name]) for name in ("requests", "lists", "watches", "leases", "discovery"))
        )

    @property
    def writes(self) -> tuple[AuditLine, ...]:
        """Those of `requests` that were meant to change something."""
        return tuple(line for line in self.requests if line.writes)

    @property
    def dry_runs(self) -> tuple[AuditLine, ...]:
        """Those of `requests` that were dry runs."""
        return tuple(line for line in self.requests if line.dry_run)

    def about(self, *names: str) -> tuple[AuditLine, ...]:
        """Those of `requests` about objects of these names, or about Events on them."""
        return tuple(line for line in self.requests if line.name.partition(".")[0] in names)

    def table(self) -> str:
        """Show what was sent, most frequent first, for people."""
        rows = collections.Counter(
            f"{line.verb} {line.resource}{'/' + line.subresource if line.subresource else ''}"
            f"{' (dry run)' if line.dry_run else ''} {line.code}"
            for line in self.requests
        )
        apart = (
            f"apart: {len(self.lists)} lists, {len(self.watches)} watches, "
            f"{len(self.leases)} of leases, {len(self.discovery)} of discovery"
        )
        return "\n".join([*(f"{count:6} {what}" for what, count in rows.most_common()), apart])


def _sort(line: AuditLine) -> str:
    if line.resource == "leases":
        return "leases"
    if line.verb == "watch":
        return "watches"
    if line.verb == "list":
        return "lists"
    return "requests" if line.resource else "discovery"
