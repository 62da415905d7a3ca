"""What a hostile kustomization meets: paths, links, circles, and everything that multiplies."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest

from gitwright.artifact.tree import File, Tree
from gitwright.render.kustomize.artifacts import ArtifactFiles
from gitwright.render.kustomize.build import build
from gitwright.render.kustomize.documents import Remembered
from gitwright.render.kustomize.errors import KustomizeError
from gitwright.render.kustomize.tree import MappingFiles

_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\n"


def _tree(files: Mapping[str, str], links: Mapping[str, str] | None = None) -> MappingFiles:
    return MappingFiles({path: text.encode() for path, text in files.items()}, links)


def _refused(files: Mapping[str, str], path: str = "", links: Mapping[str, str] | None = None) -> str:
    with pytest.raises(KustomizeError) as caught:
        build(_tree(files, links), path)
    return str(caught.value)


class _Watched(MappingFiles):
    """A tree that fails the test when it is asked for a path that could leave it."""

    def _check(self, path: str) -> None:
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        assert "\0" not in path

    def read(self, path: str) -> bytes:
        self._check(path)
        return super().read(path)

    def is_file(self, path: str) -> bool:
        self._check(path)
        return super().is_file(path)

    def is_dir(self, path: str) -> bool:
        self._check(path)
        return super().is_dir(path)


def test_no_spelling_of_a_path_leaves_the_tree() -> None:
    """Whatever a kustomization writes for a path, the tree is only ever asked for paths inside it (S1)."""
    choice = random.Random(1)
    parts = [
        "..",
        ".",
        "",
        "a",
        "base",
        "...",
        "..%2f",
        "\\..",
        "~",
        "/",
        "//",
        "a b",
        "é",
        "file:",
        "\u202e",
    ]
    for number in range(10_000):
        spelling = "/".join(choice.choices(parts, k=choice.randint(1, 7)))
        field = ("resources", "components", "crds", "configurations")[number % 4]
        text = f"{field}:\n- {spelling!r}\nnamePrefix: a-\n"
        files = _Watched({"x/y/kustomization.yaml": text.encode(), "base/a.yaml": _MAP.encode()})
        try:
            built = build(files, "x/y")
        except KustomizeError:
            continue
        assert all(".." not in path.split("/") and not path.startswith("/") for path in built.inputs)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret.yaml", "../x/../../y", "loop.yaml"])
def test_a_link_out_of_the_tree_is_refused(target: str) -> None:
    """A symbolic link that is absolute, climbs out of the tree or goes in circles fails the build (S2)."""
    files = {"app/kustomization.yaml": "resources: [loop.yaml]\n"}
    assert "link" in _refused(files, "app", {"app/loop.yaml": target}) or "out of the tree" in _refused(
        files, "app", {"app/loop.yaml": target}
    )


def test_a_link_inside_the_tree_is_followed() -> None:
    """A link to a file or folder of the tree is as good as what it leads to, and is an input itself."""
    files = {"app/kustomization.yaml": "resources: [to/a.yaml]\n", "base/a.yaml": _MAP}
    built = build(_tree(files, {"app/to": "../base"}), "app")
    assert [obj["metadata"]["name"] for obj in built.objects] == ["one"]
    assert {"app/to", "base/a.yaml", "app/kustomization.yaml"} <= built.inputs


def test_what_was_looked_for_and_not_found_is_an_input() -> None:
    """A kustomization file of another name could appear, so its absence belongs to the inputs (S7)."""
    built = build(_tree({"kustomization.yml": "resources: [a.yaml]\n", "a.yaml": _MAP}), "")
    assert {"kustomization.yaml", "kustomization.yml", "Kustomization", "a.yaml"} <= built.inputs


@pytest.mark.parametrize("path", [".", "..", "../app", "../../top/app", "sub/.."])
def test_a_base_that_holds_its_overlay_is_refused(path: str) -> None:
    """A folder cannot be its own base, nor can one above it (S3)."""
    assert "cycle detected" in _refused({"top/app/kustomization.yaml": f"resources: [{path}]\n"}, "top/app")


def test_bases_that_name_each_other_are_refused() -> None:
    """Two folders that are each other's base end the build at once (S3)."""
    files = {"a/kustomization.yaml": "resources: [../b]\n", "b/kustomization.yaml": "resources: [../a]\n"}
    assert "cycle detected" in _refused(files, "a")


def test_too_deep_a_chain_of_bases_is_refused() -> None:
    """A chain of bases has a bound, below what the interpreter's stack can hold (S3)."""
    files = {f"n{i}/kustomization.yaml": f"resources: [../n{i + 1}]\nnamePrefix: a-\n" for i in range(500)}
    assert "too many kustomizations" in _refused(files, "n0")


def test_bases_that_double_at_every_level_are_refused() -> None:
    """Two uses of each base at thirty levels are a billion folders; the build ends long before (S3, S10)."""
    files = {"n30/kustomization.yaml": "resources: [a.yaml]\n", "n30/a.yaml": _MAP}
    for i in range(30):
        files[f"n{i}/kustomization.yaml"] = "resources: [l, r]\n"
        for side in "lr":
            files[f"n{i}/{side}/kustomization.yaml"] = f"resources: [../../n{i + 1}]\nnamePrefix: {side}-\n"
    assert "too many kustomizations" in _refused(files, "n0")


def test_a_base_used_many_times_cannot_multiply_its_objects_without_end() -> None:
    """A folder of many objects used by many overlays stops at the bound on objects (S10)."""
    many = "---\n".join(_MAP.replace("one", f"n{i}") for i in range(1_000))
    files = {"base/kustomization.yaml": "resources: [a.yaml]\n", "base/a.yaml": many}
    for i in range(60):
        files[f"o{i}/kustomization.yaml"] = f"resources: [../base]\nnamePrefix: p{i}-\n"
    files["top/kustomization.yaml"] = "resources:\n" + "".join(f"- ../o{i}\n" for i in range(60))
    assert "objects in one build" in _refused(files, "top")


def test_one_file_in_many_generators_stops_at_the_bound_on_bytes() -> None:
    """A large file put into many ConfigMaps stops at the bound on what is used again (S10)."""
    entries = "".join(f"- name: c{i}\n  files: [big]\n" for i in range(200))
    files = {"kustomization.yaml": f"configMapGenerator:\n{entries}", "big": "x" * 1_000_000}
    assert "too many times" in _refused(files)


def test_variables_cannot_multiply_text_without_end() -> None:
    """A text that names a long variable very often stops at the bound (S10)."""
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{args: ['%s']}]}\n"
    source = _MAP + f"data: {{a: '{'x' * 100_000}'}}\n"
    variable = (
        "{name: V, objref: {apiVersion: v1, kind: ConfigMap, name: one}, fieldref: {fieldPath: data.a}}"
    )
    files = {
        "kustomization.yaml": f"resources: [a.yaml, b.yaml]\nvars: [{variable}]\n",
        "a.yaml": source,
        "b.yaml": pod % ("$(V)" * 10_000),
    }
    assert "characters" in _refused(files)


@pytest.mark.parametrize("options", ["{delimiter: '-', index: 99}", "{create: true}"])
def test_replacements_cannot_double_a_value_without_end(options: str) -> None:
    """Sixty replacements that each double a value stop at a bound, for texts and for maps (S10)."""
    source, target = ("data.a", "data.a") if "delimiter" in options else ("data", "data.b{}")
    head = f"- source: {{kind: ConfigMap, fieldPath: {source}}}\n  targets:\n"
    tail = f"options: {options}}}\n"
    head += "  - {select: {kind: ConfigMap}, fieldPaths: "
    entries = "".join(f"{head}[{target.format(i)}], {tail}" for i in range(60))
    files = {
        "kustomization.yaml": f"resources: [a.yaml]\nreplacements:\n{entries}",
        "a.yaml": _MAP + "data: {a: 'xxxx'}\n",
    }
    assert "more than" in _refused(files)


def test_a_bomb_of_aliases_is_refused() -> None:
    """Aliases of aliases stop at the reader's bound, in objects and in kustomizations (S11)."""
    levels = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    assert "aliasing" in _refused({"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": _MAP + levels})
    assert "aliasing" in _refused({"kustomization.yaml": levels})


def test_nesting_without_end_is_refused() -> None:
    """Ten thousand nested maps stop at the reader's bound (S11)."""
    nested = "x: " + "{a: " * 10_000 + "}" * 10_000 + "\n"
    assert "levels deep" in _refused({"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": _MAP + nested})


@pytest.mark.parametrize(
    "path",
    ["https://example.com/a.yaml", "github.com/org/repo", "git@example.com:org/repo", "git::x//y?ref=z"],
)
def test_nothing_is_fetched(path: str) -> None:
    """What kustomize would fetch is refused with a hint, whether it is a file or a folder (S3)."""
    assert "remote bases are off" in _refused({"kustomization.yaml": f"resources: ['{path}']\n"})


@pytest.mark.parametrize("kind", ["generators", "transformers", "validators"])
def test_no_function_or_program_is_run(kind: str) -> None:
    """A plugin that is no built-in one is refused by name."""
    plugin = (
        "apiVersion: example.com/v1\nkind: Any\nmetadata:\n  name: x\n  annotations:\n"
        "    config.kubernetes.io/function: 'exec: {path: ./run.sh}'\n"
    )
    files = {
        "kustomization.yaml": f"{kind}: [p.yaml]\nresources: [a.yaml]\n",
        "p.yaml": plugin,
        "a.yaml": _MAP,
    }
    assert "external plugins disabled" in _refused(files)


class _NoReader:
    async def read(self, ids: Sequence[str]) -> dict[str, bytes]:
        raise AssertionError(ids)


def test_an_artifact_is_built_through_its_tree() -> None:
    """A tree of an artifact gives names, links and blob ids; contents come from the caller, once."""
    contents = {"app/kustomization.yaml": b"resources: [to/a.yaml]\n", "base/a.yaml": _MAP.encode()}
    files = {path: File(f"id-{path}", len(text)) for path, text in contents.items()}
    files["app/to"] = File("id-link", 7, link="../base")
    asked: list[str] = []

    def content(path: str) -> bytes:
        asked.append(path)
        return contents[path]

    tree = Tree.build(files, _NoReader())
    remembered = Remembered()
    built = build(ArtifactFiles(tree, content), "app", remembered)
    assert [obj["metadata"]["name"] for obj in built.objects] == ["one"]
    assert sorted(asked) == ["app/kustomization.yaml", "base/a.yaml"]
    asked.clear()
    assert build(ArtifactFiles(tree, content), "app", remembered) == built
    assert asked == ["app/kustomization.yaml"]


class _Blobs(MappingFiles):
    """A tree whose files have blob ids and that counts what is read."""

    def __init__(self, contents: Mapping[str, bytes], blobs: Mapping[str, str]) -> None:
        super().__init__(contents)
        self._blobs = blobs
        self.reads: list[str] = []

    def blob(self, path: str) -> str | None:
        return self._blobs.get(path)

    def read(self, path: str) -> bytes:
        self.reads.append(path)
        return super().read(path)


def test_a_file_whose_blob_is_known_is_not_read_again() -> None:
    """Parsed documents are remembered by blob id, and what one build changes no other one sees."""
    contents = {"kustomization.yaml": b"resources: [a.yaml]\nnamePrefix: p-\n", "a.yaml": _MAP.encode()}
    remembered = Remembered()
    first = build(_Blobs(contents, {"a.yaml": "id-1"}), "", remembered)
    files = _Blobs(contents, {"a.yaml": "id-1"})
    second = build(files, "", remembered)
    assert first.objects == second.objects
    assert first.inputs == second.inputs
    assert "a.yaml" not in files.reads
    changed = _Blobs({**contents, "a.yaml": _MAP.replace("one", "two").encode()}, {"a.yaml": "id-2"})
    assert build(changed, "", remembered).objects[0]["metadata"]["name"] == "p-two"
