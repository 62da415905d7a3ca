"""The vetting walk finds what a build reads, and refuses what leaves the tree, fetches or never ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitwright.artifact.tree import Tree
from gitwright.core.errors import Transient
from gitwright.formats import yaml
from gitwright.render import vet as vetting
from gitwright.render.errors import BuildError
from gitwright.render.files import Known
from gitwright.render.generate import BuildSpec
from gitwright.render.paths import Outside, Places, hold, is_remote
from tests.sandbox.trees import tree_of

ROOT = "/tmp/kustomization-1"
CM = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


def vet(tree: Tree, spec: BuildSpec | None = None) -> vetting.Closure:
    return asyncio.run(vetting.vet(tree, spec or BuildSpec(path="./app"), ROOT, Known()))


def refused(files: Mapping[str, str], links: Mapping[str, str] | None = None) -> BuildError:
    with pytest.raises(BuildError) as caught:
        vet(tree_of(files, links))
    assert caught.value.reason == "BuildFailed"
    return caught.value


def read_of(closure: vetting.Closure) -> set[str]:
    return {path for path in closure.contents if not path.endswith("kustomization.yaml")}


EVERY_FIELD = """
resources: [r.yaml, ../base]
bases: [../old]
components: [../part]
crds: [crd.yaml]
configurations: [conf.yaml]
openapi: {path: schema.json}
patches: [{path: p.yaml}, {patch: 'x: y'}]
patchesStrategicMerge: [psm.yaml, "apiVersion: v1\\nkind: X\\n"]
patchesJson6902: [{path: pj.yaml, target: {kind: X, name: x}}]
replacements: [{path: rep.yaml}, {source: {kind: X}, targets: []}]
configMapGenerator: [{name: a, files: [f1.txt, key=f2.txt], envs: [e1.env], env: e2.env}]
secretGenerator: [{name: b, files: [s.bin]}]
generators: [gen.yaml]
transformers: [tr, "apiVersion: builtin\\nkind: PatchTransformer\\npath: inline.yaml\\n"]
validators: [val.yaml]
"""


def test_every_field_that_names_a_file_is_followed() -> None:
    """The closure holds each file that any field names, also through bases and plugins, and no other."""
    named = ["r.yaml", "crd.yaml", "conf.yaml", "schema.json", "p.yaml", "psm.yaml", "pj.yaml", "rep.yaml"]
    named += ["f1.txt", "f2.txt", "e1.env", "e2.env", "s.bin", "gen.yaml", "inline.yaml", "val.yaml"]
    files = {f"app/{name}": "a: b\n" for name in [*named, "unnamed.yaml"]}
    files["app/kustomization.yaml"] = EVERY_FIELD
    files["app/gen.yaml"] = "kind: ConfigMapGenerator\nmetadata: {name: g}\nfiles: [k=g.txt]\n"
    files["app/g.txt"] = "x"
    files["app/tr/kustomization.yaml"] = "resources: [t.yaml]\n"
    files["app/tr/t.yaml"] = "kind: PatchTransformer\npath: from-tr.yaml\n"
    # A plugin's paths are relative to the kustomization that names it, not to its own folder.
    files["app/from-tr.yaml"] = "a: b\n"
    files |= {"base/kustomization.yaml": "resources: [b.yaml]\n", "base/b.yaml": CM}
    files |= {"old/kustomization.yaml": "resources: [o.yaml]\n", "old/o.yaml": CM}
    files |= {"part/kustomization.yaml": "kind: Component\nresources: [p.yaml]\n", "part/p.yaml": CM}
    files["other/x.yaml"] = CM
    expected = {path for path in files if not path.endswith(("kustomization.yaml", "unnamed.yaml", "x.yaml"))}
    assert read_of(vet(tree_of(files))) == expected


def test_fields_are_known_whatever_their_case() -> None:
    """Go reads `Resources` as `resources`, so it is vetted and written out in kustomize's spelling."""
    files = {"app/kustomization.yaml": "resources: [../base]\n", "base/b.yaml": CM}
    tree = tree_of(
        {**files, "base/kustomization.yaml": "Re\u017fources: [b.yaml]\nPATCHES: [{PATH: b.yaml}]\n"}
    )
    closure = vet(tree)
    assert read_of(closure) == {"base/b.yaml"}
    written = yaml.load_documents(closure.contents["base/kustomization.yaml"])
    assert written == [{"resources": ["b.yaml"], "patches": [{"path": "b.yaml"}]}]
    for text in (
        "Resources: ['https://x/y']\n",
        "patches: [{Path: /etc/passwd}]\n",
        "resources: []\nResources: []\n",
    ):
        refused({"app/kustomization.yaml": "resources: [../base]\n", "base/kustomization.yaml": text})


@pytest.mark.parametrize(
    "target",
    [
        *("https://example.com/x.yaml", "http://example.com/x.yaml", "HTTPS://example.com/x", "https:x"),
        *("github.com/org/repo", "GitHub.com/org/repo//path?ref", "github.com:org/repo", "gh:org/repo"),
        *(
            "git::https://example.com/r",
            "git@example.com:org/repo.git",
            "org-1@github.com:o/r",
            "ssh://git@h/r",
        ),
        *("file:///etc", "ftp://x/y", " https://example.com/x", "s3::https://x"),
    ],
)
@pytest.mark.parametrize(
    "field",
    [
        "resources: [{}]",
        "bases: [{}]",
        "components: [{}]",
        "crds: [{}]",
        "patches: [{{path: {}}}]",
        "configMapGenerator: [{{name: a, files: [{}]}}]",
        "configMapGenerator: [{{name: a, files: ['k='{}]}}]",
        "openapi: {{path: {}}}",
        "transformers: [{}]",
        "replacements: [{{path: {}}}]",
    ],
)
def test_nothing_is_fetched(field: str, target: str) -> None:
    """A remote target is refused in every field, also when the tree has a folder of that name."""
    quoted = f"'{target}'"
    text = field.format(quoted).replace("'k=''", "'k=")
    error = refused(
        {"app/kustomization.yaml": text + "\n", f"app/{target.strip('/ ')}/kustomization.yaml": ""}
    )
    assert is_remote(target)
    assert "is not allowed" in error.message
    assert error.hint == "remote bases are off: vendor them into the repository"


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../etc/passwd", "../..", "a/../../../x", "./../app/../../x", "//etc/passwd"]
)
@pytest.mark.parametrize("field", ["resources: ['{}']", "secretGenerator: [{{name: a, files: ['k={}']}}]"])
def test_no_path_leaves_the_tree(field: str, target: str) -> None:
    """Absolute paths and those that climb over the root are refused with Flux's words."""
    error = refused({"app/kustomization.yaml": field.format(target) + "\n"})
    assert "is not in or below '/tmp/kustomization-1'" in error.message
    assert error.message.startswith("kustomize build failed: accumulating resources: path '")


@pytest.mark.parametrize(
    "links",
    [
        {"app/a.yaml": "/etc/passwd"},
        {"app/a.yaml": "../../etc/passwd"},
        {"app/a.yaml": "b", "app/b": "../../x"},
        {"app/a.yaml": "a.yaml"},
        {"app/a.yaml": "b", "app/b": "a.yaml"},
        {"app/a.yaml": "up/../../x", "app/up": "../base"},
    ],
)
def test_no_link_leaves_the_tree(links: dict[str, str]) -> None:
    """A symbolic link out of the tree, directly or by another, or in a circle, is refused (S2)."""
    error = refused({"app/kustomization.yaml": "resources: [a.yaml]\n", "base/b.yaml": CM}, links)
    assert "is not in or below" in error.message
    assert error.detail == "'a.yaml' leads out of the repository"


def test_links_inside_the_tree_are_followed() -> None:
    """A link that stays inside is written out with what it leads to."""
    files = {
        "app/kustomization.yaml": "resources: [in/b.yaml, a.yaml]\n",
        "base/b.yaml": CM,
        "base/c.yaml": CM,
    }
    closure = vet(tree_of(files, {"app/in": "../base", "app/a.yaml": "in/../base/c.yaml", "app/out": "/etc"}))
    assert read_of(closure) == {"base/b.yaml", "base/c.yaml"}
    assert dict(closure.links) == {"app/in": "../base", "app/a.yaml": "in/../base/c.yaml"}


PIECES = [
    *("..", ".", "", "app", "base", "b.yaml", "in", "out", "abs", "loop", "up", "deep"),
    *("etc", "~", "a\nb", "x\\.."),
]
LINKS = {
    "app/in": "../base",
    "app/out": "../../etc",
    "abs": "/etc",
    "loop": "loop",
    "base/up": "..",
    "base/deep": "up/app/in/../app/in",
}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the property test on a real file system, as the judge."""
    root = tmp_path_factory.mktemp("judge") / "root"
    for folder in ("app", "base"):
        (root / folder).mkdir(parents=True)
        (root / folder / "b.yaml").write_text(CM)
    for path, target in LINKS.items():
        (root / path).symlink_to(target)
    return root


TREE = tree_of({"app/b.yaml": CM, "base/b.yaml": CM}, LINKS)


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=True))
def test_a_path_is_resolved_as_the_file_system_does_or_refused(disk: Path, random: Random) -> None:
    """Of ten thousand spellings, those inside lead where the kernel says, and the rest is refused (S1)."""
    for _ in range(50):
        pieces = random.choices(PIECES, k=random.randint(1, 8))
        _judge(disk, random.choice(["", "", "", "/", "//"]) + "/".join(pieces))


def _judge(disk: Path, path: str) -> None:
    places = Places(TREE)
    try:
        place = places.resolve("app", path)
    except Outside:
        return
    assert not path.startswith("/"), path
    # kustomize takes `..` away from the text first, as os.path.normpath does; the kernel does the rest.
    lexical = Path(disk, *_clean(["app", *path.split("/")]))
    if place.kind == "absent":
        assert not lexical.exists(), path
        return
    assert lexical.resolve(strict=True) == disk / place.path, path
    assert place.kind == ("dir" if lexical.is_dir() else "file"), path
    assert all(not target.startswith("/") for target in places.links.values())


def _clean(names: list[str]) -> list[str]:
    kept: list[str] = []
    for name in names:
        if name == "..":
            assert kept, "a path above the root was accepted"
            kept.pop()
        elif name not in ("", "."):
            kept.append(name)
    return kept


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=6))
def test_the_spec_path_never_climbs_over_the_root(pieces: list[str]) -> None:
    """In `spec.path`, `..` stops at the root, as Flux joins it."""
    path = "/".join(pieces)
    try:
        place = Places(TREE).root(path)
    except Outside:
        return
    assert ".." not in place.path.split("/")


def test_a_cycle_is_named() -> None:
    """Folders that name each other are refused, with the way round in the detail."""
    error = refused(
        {
            "app/kustomization.yaml": "resources: [../b]\n",
            "b/kustomization.yaml": "resources: [../c]\n",
            "c/kustomization.yaml": "components: [../b/]\n",
        }
    )
    assert "cycle detected: candidate root '/tmp/kustomization-1/b' contains visited root" in error.message
    assert error.detail.endswith("b -> c -> b")


def chain(length: int, names: int = 1) -> dict[str, str]:
    files = {"app/kustomization.yaml": "resources: [../b1]\n"}
    for index in range(1, length):
        below = f"../b{index + 1}"
        named = [below, f"./../b{index + 1}x"][:names]
        for mark in ("", "x")[:names]:
            text = f"resources: [{', '.join(named)}]\n" if index < length - 1 else "resources: []\n"
            files[f"b{index}{mark}/kustomization.yaml"] = text
    return files


def test_depth_is_limited() -> None:
    """A hundred folders deep is built, one more is refused."""
    assert len(vet(tree_of(chain(100))).contents) == 100
    assert "more than 100 folders deep" in refused(chain(101)).message


def test_bases_that_double_are_refused() -> None:
    """Thirty levels of two bases each would be built a thousand million times: refused at once."""
    started = time.perf_counter()
    assert "more than 10000 times" in refused(chain(30, names=2)).message
    assert time.perf_counter() - started < 2


def alias_bomb() -> str:
    rows = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    return CM + "data:\n" + "\n".join("  " + row for row in rows) + "\n"


@pytest.mark.parametrize(
    "files",
    [
        {"app/kustomization.yaml": "resources: [a.yaml]\n", "app/a.yaml": alias_bomb()},
        {"app/kustomization.yaml": "patches: [{path: a.yaml}]\n", "app/a.yaml": alias_bomb()},
        {"app/kustomization.yaml": alias_bomb()},
        {"app/kustomization.yaml": yaml.dump({"patches": [{"patch": alias_bomb()}]})},
        {"app/kustomization.yaml": yaml.dump({"transformers": [alias_bomb()]})},
        {"app/a.yaml": alias_bomb()},
        {"app/kustomization.yaml": "resources: [a.yaml]\n", "app/a.yaml": CM + "data: " + "{a: " * 9990},
        {
            "app/kustomization.yaml": "resources: [a.yaml]\n",
            "app/a.yaml": "\n".join(" " * n + "a:" for n in range(999)),
        },
    ],
)
def test_bombs_are_refused_at_once(files: dict[str, str]) -> None:
    """An alias bomb or endless nesting in any YAML of a build is refused in less than a second (S11)."""
    started = time.perf_counter()
    error = refused(files)
    assert "excessive aliasing" in error.message or "levels deep" in error.message
    assert error.place
    assert time.perf_counter() - started < 1


def test_a_folder_of_plugins_cannot_change_them() -> None:
    """Plugins from a folder that patches them could read anything, so such a folder is refused."""
    error = refused(
        {
            "app/kustomization.yaml": "transformers: [tr]\n",
            "app/tr/kustomization.yaml": "resources: [t.yaml]\npatches: [{patch: 'x: y'}]\n",
            "app/tr/t.yaml": "kind: PatchTransformer\npath: x\n",
        }
    )
    assert "uses patches" in error.message


@pytest.mark.parametrize(
    "plugin",
    [
        "kind: PatchTransformer\npath: /etc/passwd\n",
        "kind: PatchTransformer\nPath: /etc/passwd\n",
        "kind: List\nitems: [{kind: SecretGenerator, files: [/etc/passwd]}]\n",
        "kind: PatchStrategicMergeTransformer\npaths: [../../x]\n",
        "kind: ReplacementTransformer\nreplacements: [{path: /x}]\n",
        "kind: PatchTransformer\npath: ok.yaml\npath: /etc/passwd\n",
        "kind: X\n---\nkind: ConfigMapGenerator\nenvs: ['https://x/y']\n",
    ],
)
def test_what_plugins_name_is_vetted(plugin: str) -> None:
    """A path in the configuration of a plugin, in a file or in place, is judged as any other."""
    refused({"app/kustomization.yaml": "transformers: [t.yaml]\n", "app/t.yaml": plugin})
    refused({"app/kustomization.yaml": "generators: [t.yaml]\n", "app/t.yaml": plugin})
    refused({"app/kustomization.yaml": yaml.dump({"transformers": [plugin]})})


def test_two_kustomization_files_are_an_error() -> None:
    """A folder with two kustomization files is refused as kustomize refuses it."""
    files = {"app/kustomization.yaml": "", "app/Kustomization": ""}
    error = refused(files)
    assert "Found multiple kustomization files under: /tmp/kustomization-1/app" in error.message
    refused(
        {
            "app/kustomization.yaml": "resources: [../b]\n",
            **{k.replace("app", "b"): v for k, v in files.items()},
        }
    )


def test_a_broken_kustomization_names_file_and_line() -> None:
    """A kustomization file that is no YAML is named with its line."""
    error = refused(
        {"app/kustomization.yaml": "resources: [../b]\n", "b/kustomization.yml": "resources:\n- a\n- [b\n"}
    )
    assert error.place == "b/kustomization.yml:4"
    assert error.message.startswith(
        "kustomize build failed: couldn't make target for path '/tmp/kustomization-1/b'"
    )


def test_a_missing_path_may_come_with_the_next_revision() -> None:
    """A path that is not in the tree is Flux's error of the artifact, and worth another try."""
    with pytest.raises(Transient) as caught:
        vet(tree_of({"other/a.yaml": CM}))
    assert caught.value.reason == "ArtifactFailed"
    assert caught.value.message == (
        "kustomization path not found: stat /tmp/kustomization-1/app: no such file or directory"
    )


def test_an_unknown_field_makes_the_whole_tree_the_closure() -> None:
    """Where a base has a field that is not known here, a change anywhere in the tree counts."""
    files = {
        "app/kustomization.yaml": "resources: [../b]\n",
        "b/kustomization.yaml": "sources: [x]\n",
        "c/d": "x",
    }
    closure = vet(tree_of(files))
    assert "c/d" in closure.contents
    assert hold(tree_of(files), closure.facts)
    assert not hold(tree_of({**files, "c/d": "y"}), closure.facts)


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({"other/x": "new"}, True),
        ({"app/unnamed.yaml": "new"}, True),
        ({"app/a.yaml": CM + "data: {}\n"}, False),
        ({"app/kustomization.yaml": "resources: [a.yaml]\n"}, False),
        ({"base/b.yaml": CM + "data: {}\n"}, False),
        ({"base/kustomization.yml": ""}, False),
        ({"app/gone.yaml": CM}, False),
        ({"part/kustomization.yaml": "kind: Component\n"}, False),
        ({"target/t.yaml": "new"}, False),
    ],
)
def test_facts_tell_what_a_build_depends_on(change: dict[str, str], holds: bool) -> None:
    """Facts stay true when something else changes, and fail when anything does that the build looked at."""
    files = {
        "app/kustomization.yaml": "resources: [a.yaml, ../base, gone.yaml, t.yaml]\n",
        "app/a.yaml": CM,
        "app/unnamed.yaml": CM,
        "base/kustomization.yaml": "resources: [b.yaml]\n",
        "base/b.yaml": CM,
        "target/t.yaml": CM,
        "other/x": "old",
    }
    links = {"app/t.yaml": "../target/t.yaml"}
    spec = BuildSpec(path="app", components=("../part",), ignore_missing_components=True)
    facts = vet(tree_of(files, links), spec).facts
    assert hold(tree_of(files, links), facts)
    assert hold(tree_of({**files, **change}, links), facts) is holds
    assert not hold(tree_of(files, {"app/t.yaml": "../other/x"}), facts)


def test_a_generated_kustomization_depends_on_every_name_below() -> None:
    """Without a kustomization file a new file below the path counts, one beside it does not."""
    files = {"app/x/a.yaml": CM, "app/b.yml": CM}
    facts = vet(tree_of(files)).facts
    assert not hold(tree_of({**files, "app/x/y/c.yaml": CM}), facts)
    assert hold(tree_of({**files, "beside/c.yaml": CM}), facts)
