"""Checks the changelog fragments: each named `<topic>.<kind>.md`, each with text.

Run by `make check`; towncrier makes the changelog of them at a release.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "changelog.d"
KINDS = ("security", "feature", "fix", "removal", "doc")
NAME = re.compile(rf"\+?[a-z0-9-]+\.({'|'.join(KINDS)})\.md")


def main() -> int:
    """Print each finding; give 1 when there is any."""
    findings = []
    for path in sorted(FOLDER.iterdir()):
        if path.name == "README.md":
            continue
        if not NAME.fullmatch(path.name):
            findings.append(f"{path.name}: name it <topic>.<kind>.md, kind one of {', '.join(KINDS)}")
        elif not path.read_text().strip():
            findings.append(f"{path.name}: is empty")
    for finding in findings:
        print(finding)
    print(f"fragments: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
