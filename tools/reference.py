"""Write the pages of docs/reference from the code, or check that they are what the code says.

    python tools/reference.py           writes them
    python tools/reference.py --check   changes nothing; exit code 1 when a page is out of date

Kinds come from the CRDs, settings from the table of options, conditions and reasons from `api.meta`.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gitwright.api import crds, meta
from gitwright.api.kinds import KINDS, Kind
from gitwright.core.objects import JSON
from gitwright.settings import GATES, OPTIONS, Option, show

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
HEADER = "<!-- Made from the code by tools/reference.py. Do not edit. -->\n\n"


def main(arguments: Sequence[str]) -> int:
    """Write or check all pages; give the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when a page is out of date"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the pages are")
    options = parser.parse_args(arguments)
    stale = [
        name for name, text in pages().items() if not _settle(options.folder / name, text, options.check)
    ]
    if stale and options.check:
        print(f"out of date: {', '.join(stale)}; run python tools/reference.py", file=sys.stderr)
        return 1
    return 0


def pages() -> dict[str, str]:
    """Give the text of each page by file name."""
    made = {f"{kind.singular}.md": kind_page(kind) for kind in KINDS}
    made["settings.md"] = settings_page()
    made["conditions.md"] = conditions_page()
    return {name: HEADER + text for name, text in made.items()}


def _settle(path: Path, text: str, check: bool) -> bool:
    """Write a page, or show how it differs; tell whether it was right already."""
    old = path.read_text() if path.exists() else ""
    if old == text:
        return True
    if check:
        lines = difflib.unified_diff(
            old.splitlines(),
            text.splitlines(),
            f"{path.name} (file)",
            f"{path.name} (code)",
            lineterm="",
            n=1,
        )
        print("\n".join(lines))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return False


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# ---- kinds


def kind_page(kind: Kind) -> str:
    """Write the page of a kind: its names, then every field of spec and status."""
    version = crds.crd(kind)["spec"]["versions"][0]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    columns = ", ".join(column.name for column in kind.columns)
    short = ", ".join(f"`{name}`" for name in kind.short_names)
    parts = [
        f"# {kind.name}\n\n{kind.about}\n",
        f"- `apiVersion: {kind.gvk.api_version}`, `kind: {kind.name}`\n"
        f"- plural `{kind.plural}`, short {short}\n"
        f"- categories: {', '.join(kind.categories)}\n"
        f"- columns of `kubectl get`: {columns}\n"
        f"- finalizer: `{meta.FINALIZER}`; status written as `{kind.manager}`\n",
    ]
    for part in ("spec", "status"):
        schema = properties[part]
        rows = list(_rows(schema, ""))
        parts.append(
            f"## {part}\n\n{schema['description']}\n{_rules(schema)}\n"
            + _table(("Field", "Type", "Required", "Default", "Meaning"), rows)
        )
    parts.append("Conditions and reasons are on a page of their own: [conditions](conditions.md).\n")
    return "\n".join(parts)


def _rows(schema: JSON, prefix: str) -> Iterator[list[str]]:
    required = schema.get("required", ())
    for name, child in sorted(schema.get("properties", {}).items()):
        path = f"{prefix}{name}"
        default = child.get("default")
        yield [
            f"`{path}`",
            _type(child),
            "yes" if name in required else "",
            "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`",
            (child["description"] + " " + _limits(child)).strip(),
        ]
        if child["type"] == "object":
            yield from _rows(child, f"{path}.")
        elif child["type"] == "array":
            yield from _rows(child["items"], f"{path}[].")


def _type(schema: JSON) -> str:
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}"
    if schema.get("format") == "date-time":
        return "time"
    return str(schema["type"])


def _limits(schema: JSON) -> str:
    told = []
    values = schema.get("enum") or schema.get("items", {}).get("enum")
    if values:
        told.append("One of " + ", ".join(f"`{value}`" for value in values) + ".")
    if "pattern" in schema:
        told.append(f"Pattern `{schema['pattern']}`.")
    if "minLength" in schema or "maxLength" in schema:
        told.append(f"{schema.get('minLength', 0)} to {schema.get('maxLength', 'any number of')} characters.")
    if "minimum" in schema:
        told.append(f"At least {schema['minimum']}.")
    told += [f"Rule: {rule['message']}." for rule in schema.get("x-kubernetes-validations", [])]
    return " ".join(dict.fromkeys(told))


def _rules(schema: JSON) -> str:
    rules = schema.get("x-kubernetes-validations", [])
    return "".join(f"\nRule: {rule['message']}.\n" for rule in rules)


# ---- settings


def settings_page() -> str:
    """Write the page of the engine's options, group by group."""
    parts = [
        "# Settings\n\nEvery option of `gitwright run`, as a flag and as an environment variable; "
        "a flag wins. "
        "Durations are written as `30s`, `5m` or `1h30m`, sizes as `512Mi`; lists with commas, or by giving "
        "the flag again.\n\n`--lockdown` sets the values in the column Lockdown at once; "
        "a looser value beside it is an error.\n"
    ]
    for group in dict.fromkeys(row.about.group for row in OPTIONS):
        rows = [_setting(row) for row in OPTIONS if row.about.group == group]
        head = ("Flag", "Variable", "Type", "Default", "Lockdown", "Meaning", "Why this default")
        parts.append(f"## {group}\n\n" + _table(head, rows))
    gates = [[f"`{gate.name}`", str(gate.default).lower(), gate.about] for gate in GATES]
    parts.append("## Feature gates\n\n" + _table(("Gate", "Default", "Meaning"), gates))
    return "\n".join(parts)


def _setting(row: Option) -> list[str]:
    about = row.about
    limits = []
    if about.choices:
        limits.append("One of " + ", ".join(f"`{choice}`" for choice in about.choices) + ".")
    if about.least:
        limits.append(f"At least {show(row, about.least)}.")
    if about.most is not None:
        limits.append(f"At most {show(row, about.most)}.")
    variables = ", ".join(f"`{name}`" for name in (row.variable, *about.also))
    # A duration's unit is part of its text.
    unit = f" ({about.unit})" if about.unit and about.type == "integer" else ""
    return [
        f"`{row.flag}`",
        variables,
        about.type + unit,
        f"`{row.shown}`" if row.shown else "empty",
        "" if about.lockdown is None else f"`{show(row, about.lockdown)}`",
        " ".join([about.text, *limits]),
        about.reason,
    ]


# ---- conditions


def conditions_page() -> str:
    """Write the page of conditions and reasons."""
    polarity = {
        "normal": "True is good",
        "abnormal": "there only while it is True",
        "both": "True is good, False is bad",
    }
    conditions = [
        [f"`{doc.type}`", ", ".join(doc.kinds), polarity[doc.polarity], doc.about] for doc in meta.CONDITIONS
    ]
    reasons = [
        [f"`{doc.name}`", ", ".join(doc.kinds), doc.about, doc.action]
        for doc in sorted(meta.REASONS, key=lambda doc: doc.name)
    ]
    return (
        "# Conditions and reasons\n\n"
        "Statuses follow Flux's and kstatus: `Ready` sums up, `Reconciling` and `Stalled` are there "
        "only while they hold. Events carry the same reasons.\n\n## Conditions\n\n"
        + _table(("Condition", "Kinds", "Polarity", "Meaning"), conditions)
        + "\n## Reasons\n\n"
        + _table(("Reason", "Kinds", "When", "What to do"), reasons)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
