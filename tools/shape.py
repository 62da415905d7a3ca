"""Checks the shape of the code: sizes of modules and functions, and import cycles, lazy ones too.

Source: design, section 2 (600 lines a module, 80 a function). Run by `make check`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES = 600
FUNCTION_LINES = 80
CHECKED = ("src/gitwright", "tests", "tools", "bench")


def main() -> int:
    """Print each finding; give 1 when there is any."""
    findings = [*sizes(), *cycles(), *shells()]
    for finding in findings:
        print(finding)
    print(f"shape: {len(findings)} findings")
    return 1 if findings else 0


def modules(*folders: str) -> Iterator[tuple[Path, ast.Module, str]]:
    """Give path, syntax tree and text of each module below the folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text()
            yield path.relative_to(ROOT), ast.parse(text), text


def sizes() -> Iterator[str]:
    """Name modules and functions that are too long."""
    for path, tree, text in modules(*CHECKED):
        lines = text.count("\n") + 1
        if lines > MODULE_LINES:
            yield f"{path}: {lines} lines, more than {MODULE_LINES}: split it"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    yield f"{path}:{node.lineno}: {node.name} has {length} lines, more than {FUNCTION_LINES}"


def cycles() -> Iterator[str]:
    """Name cycles of imports, those inside functions and type checks counted."""
    graph = {}
    names = {}
    for path, tree, _ in modules("src/gitwright"):
        name = ".".join(path.with_suffix("").parts[1:]).removesuffix(".__init__")
        names[name] = tree, path.name == "__init__.py"
    for name, (tree, package) in names.items():
        found = {target if target in names else base for base, target in imports(tree, name, package)}
        graph[name] = {target for target in found if target in names and target != name}
    for component in components(graph):
        if len(component) > 1:
            yield "import cycle: " + " -> ".join([*component, component[0]])


def imports(tree: ast.Module, name: str, package: bool) -> Iterator[tuple[str, str]]:
    """Give what a module imports anywhere in its text: the module, and the name taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                keep = len(parts) - node.level + (1 if package else 0)
                base = ".".join([*parts[:keep], *([base] if base else [])])
            yield from ((base, f"{base}.{alias.name}") for alias in node.names)


def components(graph: dict[str, set[str]]) -> list[list[str]]:
    """Give the strongly connected components of a graph (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = []
            while True:
                component.append(stack.pop())
                if component[-1] == node:
                    break
            found.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def shells() -> Iterator[str]:
    """Name places that would start a shell (S4)."""
    forbidden = {("os", "system"), ("os", "popen"), ("asyncio", "create_subprocess_shell")}
    for path, tree, _ in modules("src/gitwright"):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            owner = getattr(function, "value", None)
            if isinstance(function, ast.Attribute) and isinstance(owner, ast.Name):
                found = (owner.id, function.attr) in forbidden
                yield from [f"{path}:{node.lineno}: starts a shell"] if found else []
            for keyword in node.keywords:
                if keyword.arg == "shell" and getattr(keyword.value, "value", False):
                    yield f"{path}:{node.lineno}: starts a shell"


if __name__ == "__main__":
    sys.exit(main())
