"""Generators of config maps and secrets."""

# ruff: noqa: E501 (texts stay on the lines they are written on)
from __future__ import annotations

from tests.kustomize.cases import over_all, tree

_FILES = {"a.txt": "content a\n", "b.bin": "no newline", ".env": "A=1\nB=two words\n# note\n\nC=\n"}


def _made(text: str, **files: str) -> dict[str, str]:
    return {**tree(text), **_FILES, **files}


CASES = {
    "literals": _made(
        "configMapGenerator:\n- name: c\n  literals: [a=b, c=d=e, 'f=\"quoted\"', \"g='x'\"]\n"
    ),
    "a literal without a value": _made("configMapGenerator:\n- name: c\n  literals: [a]\n"),
    "a literal given twice": _made("configMapGenerator:\n- name: c\n  literals: [a=b, a=c]\n"),
    "files": _made("configMapGenerator:\n- name: c\n  files: [a.txt, other=b.bin]\n"),
    "no such file": _made("configMapGenerator:\n- name: c\n  files: [none.txt]\n"),
    "envs": _made("configMapGenerator:\n- name: c\n  envs: [.env]\n"),
    "env": _made("configMapGenerator:\n- name: c\n  env: .env\n"),
    "a bad key": _made("configMapGenerator:\n- name: c\n  literals: ['a b=c']\n"),
    "an env file with a bad line": _made(
        "configMapGenerator:\n- name: c\n  envs: [x.env]\n", **{"x.env": "A=1\n=x\n"}
    ),
    "an env file with a byte order mark": _made(
        "configMapGenerator:\n- name: c\n  envs: [x.env]\n", **{"x.env": "\ufeffA=1\nB=2"}
    ),
    "everything at once": _made(
        "configMapGenerator:\n- name: c\n  files: [a.txt]\n  envs: [.env]\n  literals: [z=z]\n"
    ),
    "nothing": _made("configMapGenerator:\n- name: c\n"),
    "without a name": _made("configMapGenerator:\n- literals: [a=b]\n"),
    "a namespace": _made("configMapGenerator:\n- name: c\n  namespace: n\n  literals: [a=b]\n"),
    "an immutable one": _made(
        "configMapGenerator:\n- name: c\n  literals: [a=b]\n  options: {immutable: true}\n"
    ),
    "without a hash": _made(
        "configMapGenerator:\n- name: c\n  literals: [a=b]\n  options: {disableNameSuffixHash: true}\n"
    ),
    "options for all": _made(
        "generatorOptions:\n  disableNameSuffixHash: true\n  labels: {l: all}\n  annotations: {n: all}\n"
        "configMapGenerator:\n- name: c\n  literals: [a=b]\n"
        "- name: d\n  literals: [a=b]\n  options: {labels: {l: own, m: own}}\n"
    ),
    "immutable for all": _made(
        "generatorOptions: {immutable: true}\nsecretGenerator:\n- name: c\n  literals: [a=b]\n"
    ),
    "values that look otherwise": _made(
        "configMapGenerator:\n- name: c\n  literals: [a=1, b=true, c=null, d=~, e=1.0, f=0x1, g=2020-01-01, h=yes, i=]\n"
    ),
    "a secret": _made("secretGenerator:\n- name: s\n  literals: [password=secret]\n  files: [a.txt]\n"),
    "a secret's type": _made(
        "secretGenerator:\n- name: s\n  type: kubernetes.io/tls\n  literals: [tls.crt=x, tls.key=y]\n"
    ),
    "a secret from envs": _made("secretGenerator:\n- name: s\n  envs: [.env]\n"),
    "a long secret": _made("secretGenerator:\n- name: s\n  files: [l.txt]\n", **{"l.txt": "0123456789" * 60}),
    "a long text": _made(
        "configMapGenerator:\n- name: s\n  files: [l.txt]\n", **{"l.txt": "word " * 80 + "\n"}
    ),
    "signs": _made(
        "configMapGenerator:\n- name: s\n  files: [l.txt]\n", **{"l.txt": "<a> & \u2028 ü \U0001f600 \t\n"}
    ),
    "references follow the hash": over_all(
        "configMapGenerator:\n- name: settings2\n  literals: [a=b]\npatches:\n- path: p.yaml\n",
        p="apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n"
        "      volumes: [{name: v, configMap: {name: settings2}}]\n",
    ),
    "merge": over_all(
        "configMapGenerator:\n- name: settings\n  behavior: merge\n  literals: [a=changed, new=x]\n"
    ),
    "replace": over_all("configMapGenerator:\n- name: settings\n  behavior: replace\n  literals: [only=x]\n"),
    "create what is there": over_all("configMapGenerator:\n- name: settings\n  literals: [only=x]\n"),
    "merge with nothing": over_all(
        "configMapGenerator:\n- name: none\n  behavior: merge\n  literals: [a=x]\n"
    ),
    "an unknown behaviour": over_all(
        "configMapGenerator:\n- name: settings\n  behavior: keep\n  literals: [a=x]\n"
    ),
    "merge a secret": over_all(
        "secretGenerator:\n- name: keys\n  behavior: merge\n  literals: [password=other, n=x]\n"
    ),
    "merge over a base": tree(
        """
resources: [base]
namePrefix: p-
configMapGenerator:
- name: c
  behavior: merge
  literals: [b=changed, d=new]
  options: {labels: {over: lay}}
=== base/kustomization.yaml
namePrefix: b-
configMapGenerator:
- name: c
  literals: [a=1, b=2]
  options: {labels: {ba: se}, annotations: {x: y}}
"""
    ),
    "replace over a base": tree(
        """
resources: [base]
secretGenerator:
- name: c
  behavior: replace
  literals: [b=changed]
=== base/kustomization.yaml
secretGenerator:
- {name: c, literals: [a=1, b=2], type: x/y}
"""
    ),
    "the same twice": _made(
        "configMapGenerator:\n- {name: c, literals: [a=b]}\n- {name: c, literals: [a=b]}\n"
    ),
    "the same in two namespaces": _made(
        "configMapGenerator:\n- {name: c, literals: [a=b]}\n- {name: c, namespace: n, literals: [a=b]}\n"
    ),
    "with prefix, suffix and namespace": _made(
        "namePrefix: p-\nnameSuffix: -s\nnamespace: n\nconfigMapGenerator:\n- {name: c, literals: [a=b]}\n"
    ),
    "a hash over labels": _made(
        "labels:\n- pairs: {a: b}\nconfigMapGenerator:\n- {name: c, literals: [a=b]}\n"
    ),
}
