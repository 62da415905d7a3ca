"""Reads the API server's audit log: who asked for what, and what came of it.

Role: the source of every request count in tests and benchmarks. Knows the format of
audit events at level Metadata and nothing of who caused them.
"""

from __future__ import annotations

import json
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
"""


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One request as the API server saw it.

    Args:
        time: when it came, RFC 3339 with microseconds.
        verb: get, list, watch, create, update, patch, delete, deletecollection.
        user: who was authenticated.
        impersonated: as whom it was carried out, or empty.
        group: API group, empty for the core.
        resource: plural name, empty for requests that are not about resources.
        subresource: such as `status`, or empty.
        namespace: or empty.
        name: or empty.
        uri: path and query.
        code: HTTP status.
        dry_run: nothing was to be stored.
        agent: the client's User-Agent.
    """

    time: str
    verb: str
    user: str
    impersonated: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    uri: str
    code: int
    dry_run: bool
    agent: str

    @property
    def writes(self) -> bool:
        """Whether it was meant to change what is stored."""
        return self.verb not in ("get", "list", "watch") and not self.dry_run

    def __str__(self) -> str:
        what = "/".join(part for part in (self.resource, self.subresource) if part) or self.uri
        flags = " (dry run)" if self.dry_run else ""
        return f"{self.verb} {what} {self.namespace}/{self.name} {self.code}{flags}"


class AuditLog:
    """The audit log file, read on from where the last reading ended.

    A watch is counted once, when it begins. Requests of the last moment are there as soon
    as their answers are, since the server writes the log before it ends an answer.

    Args:
        path: the file; may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._lines: list[AuditLine] = []
        self._watches: set[str] = set()

    def lines(self) -> list[AuditLine]:
        """Give all requests so far, in the order in which they were answered."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._offset += len(whole) + len(newline)
            for line in whole.splitlines():
                self._add(json.loads(line))
        return self._lines

    def _add(self, event: dict[str, Any]) -> None:
        if event["verb"] == "watch":
            if event["auditID"] in self._watches:
                return
            self._watches.add(event["auditID"])
        self._lines.append(_line(event))


def _line(event: dict[str, Any]) -> AuditLine:
    reference = event.get("objectRef", {})
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(event["requestURI"]).query)
    return AuditLine(
        time=event["requestReceivedTimestamp"],
        verb=event["verb"],
        user=event["user"].get("username", ""),
        impersonated=event.get("impersonatedUser", {}).get("username", ""),
        group=reference.get("apiGroup", ""),
        resource=reference.get("resource", ""),
        subresource=reference.get("subresource", ""),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        uri=event["requestURI"],
        code=event.get("responseStatus", {}).get("code", 0),
        dry_run="All" in query.get("dryRun", []),
        agent=event.get("userAgent", ""),
    )
