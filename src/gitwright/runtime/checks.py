"""Checks of health and readiness: what they are, and how several are told together.

Role in the flow: whoever runs something offers a `Check`; the server asks it. Source:
the form of Kubernetes' own `/readyz?verbose`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Check = Callable[[], tuple[bool, str]]
"""Tells at once, without waiting, whether something holds, with a text for people."""


def alive() -> tuple[bool, str]:
    """Answer a health check: that an answer comes says that the event loop turns."""
    return True, "ok"


def describe(results: Mapping[str, tuple[bool, str]]) -> str:
    """Write results of checks, one per line: `[+] name: text` or `[-] name: text`."""
    return "\n".join(f"[{'+' if ok else '-'}] {name}: {text or 'ok'}" for name, (ok, text) in results.items())
