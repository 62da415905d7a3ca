"""The graph of folders that a build goes through: cycles, depth and how often each is built.

Role in the flow: the vetting walk asks before the child runs. Pure.
Source: spec/security.md S3; kustomize refuses cycles with the words used here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from gitwright.render.errors import PREFIX, BuildError

MAX_DEPTH = 100
"""Folders on the way from the root to the deepest base."""
MAX_LOADS = 10_000
"""Times that any folder is built in one build: a base named twice is built twice."""


def check_graph(edges: Mapping[str, Set[str]], top: str, show: Callable[[str], str]) -> None:
    """Refuse cycles, and graphs that are too deep or too much work.

    Args:
        edges: folder -> folders that its kustomization names.
        top: where the build begins.
        show: how a folder is written in a message.

    Raises:
        BuildError: with the folders of the cycle in its detail.
    """
    depth: dict[str, int] = {}
    loads: dict[str, int] = {}
    way: list[str] = []
    stack: list[tuple[str, bool]] = [(top, False)]
    while stack:
        here, ready = stack.pop()
        if ready:
            way.pop()
            below = edges.get(here, frozenset())
            depth[here] = 1 + max((depth[child] for child in below), default=0)
            loads[here] = 1 + sum(loads[child] for child in below)
            continue
        if here in depth:
            continue
        if here in way:
            raise _cycle([*way[way.index(here) :], here], show)
        if len(way) >= MAX_DEPTH:
            break
        way.append(here)
        stack.append((here, True))
        stack.extend((child, False) for child in sorted(edges.get(here, ())))
    if top not in depth or depth[top] > MAX_DEPTH:
        raise BuildError(f"{PREFIX}: accumulating resources: bases nest more than {MAX_DEPTH} folders deep")
    if loads[top] > MAX_LOADS:
        raise BuildError(f"{PREFIX}: accumulating resources: bases are built more than {MAX_LOADS} times")


def _cycle(way: list[str], show: Callable[[str], str]) -> BuildError:
    last, again = show(way[-2]), show(way[-1])
    text = f"candidate root '{again}' contains visited root '{again}'"
    return BuildError(
        f"{PREFIX}: accumulating resources: cycle detected: {text}",
        detail=f"{last} leads back: " + " -> ".join(path or "." for path in way),
    )
