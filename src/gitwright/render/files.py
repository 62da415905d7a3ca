"""Which files a kustomization names, and what is known of files seen before.

Role in the flow: the vetting walk's knowledge of kustomize's fields. It resolves no path.
Source: kustomize 5.8; spec/dependencies.md 1; spec/security.md S11.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gitwright.core.objects import JSON
from gitwright.formats import yaml

_V = TypeVar("_V")

MAX_FILE = 50 * 1024 * 1024
"""Bytes of one file of a build (S10)."""
_REMEMBERED = 20_000
"""Blobs about which something is kept: a kustomization is about a kilobyte, a mark a few bytes."""

# What a folder of plugins may hold: fields that cannot change what its resources say.
_HARMLESS = frozenset({"apiVersion", "kind", "metadata", "resources", "bases", "buildMetadata"})
_GENERATOR_FIELDS = frozenset(
    {"name", "namespace", "behavior", "files", "envs", "env", "literals", "options", "type"}
)
_PATCH_FIELDS = frozenset({"path", "patch", "target", "options"})
_REPLACEMENT_FIELDS = frozenset({"path", "source", "targets"})

_ALIAS = re.compile(rb"(?:^|[\s\[{,:-])\*[^\s*]")
_INDENTED = re.compile(rb"^[ \t\-?:]{180}", re.MULTILINE)
_BRACKETS = 150


@dataclass(slots=True)
class Named:
    """What a kustomization names, as it is written there.

    Args:
        bases: files or folders of objects.
        files: YAML files.
        data: files of any content.
        plugins: files or folders of generators, transformers and validators.
        inline_plugins: those given in place, parsed.
        texts: YAML given in place, whose limits are still to be checked.
        changing: fields that change objects.
        complete: False when it has a field that is not known here.
    """

    bases: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    plugins: list[str] = field(default_factory=list)
    inline_plugins: list[Any] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    changing: list[str] = field(default_factory=list)
    complete: bool = True


def named(content: JSON) -> Named:
    """Give every path that a kustomization names.

    Values of a wrong type are passed by: kustomize refuses them before it reads a file.
    """
    found = Named()
    found.changing = sorted(name for name, value in content.items() if value and name not in _HARMLESS)
    for name in ("resources", "bases", "components"):
        found.bases += _texts(content.get(name))
    for name in ("crds", "configurations"):
        found.files += _texts(content.get(name))
    for name in ("patches", "patchesJson6902"):
        found.files += _paths(found, content.get(name), _PATCH_FIELDS)
    found.files += _paths(found, content.get("replacements"), _REPLACEMENT_FIELDS)
    for text in _texts(content.get("patchesStrategicMerge")):
        # kustomize tries a text as a patch first; one of several lines can be no file of a tree.
        (found.texts if "\n" in text.strip() or inline(text) is not None else found.files).append(text)
    found.files += _texts(content["openapi"].get("path")) if isinstance(content.get("openapi"), dict) else []
    for name in ("configMapGenerator", "secretGenerator"):
        for entry in _entries(found, content.get(name), _GENERATOR_FIELDS):
            found.data += _data(entry)
    for name in ("generators", "transformers", "validators"):
        for text in _texts(content.get(name)):
            documents = inline(text)
            if documents is None:
                found.plugins.append(text)
            else:
                found.inline_plugins += documents
                found.texts.append(text)
    return found


def named_by_plugin(document: Any) -> Iterator[tuple[str, bool]]:
    """Give the paths that the configuration of a generator or transformer names.

    Whatever its kind, and whatever the case of its fields: Go's decoding does not mind.

    Yields:
        the path, and whether the file is YAML.
    """
    if isinstance(document, list):
        for item in document:
            yield from named_by_plugin(item)
        return
    if not isinstance(document, dict):
        return
    folded = {name.casefold(): value for name, value in document.items()}
    if isinstance(folded.get("items"), list):
        yield from named_by_plugin(folded["items"])
    for text in _texts(folded.get("path")):
        yield text, True
    for text in _texts(folded.get("paths")):
        if inline(text) is None:
            yield text, True
    if isinstance(folded.get("replacements"), list):
        for entry in folded["replacements"]:
            if isinstance(entry, dict):
                inner = {name.casefold(): value for name, value in entry.items()}
                for text in _texts(inner.get("path")):
                    yield text, True
    for text in _data(folded):
        yield text, False


def inline(text: str) -> list[Any] | None:
    """Give the documents of a list item that is YAML in place, or None when it is a path.

    Raises:
        YamlError: it has several lines, so it is no path, and is no YAML either.
    """
    several = "\n" in text.strip()
    if not several and (text.startswith(("/", ".")) or ":" not in text):
        return None
    try:
        documents = [document.value for document in yaml.parse(text, unique=True)]
    except yaml.YamlError:
        if several:
            raise
        return None
    return documents if any(isinstance(value, dict) for value in documents) else None


def _data(entry: Mapping[str, Any]) -> list[str]:
    """Give the files of a generator: `files` items may have a key before an equals sign."""
    found = [text.partition("=")[2] if "=" in text else text for text in _texts(entry.get("files"))]
    return [*found, *_texts(entry.get("envs")), *_texts(entry.get("env"))]


def _entries(found: Named, value: Any, known: frozenset[str]) -> list[JSON]:
    entries = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    if any(set(entry) - known for entry in entries):
        found.complete = False
    return entries


def _paths(found: Named, value: Any, known: frozenset[str]) -> list[str]:
    entries = _entries(found, value, known)
    found.texts += [text for entry in entries for text in _texts(entry.get("patch"))]
    return [text for entry in entries for text in _texts(entry.get("path"))]


def _texts(value: Any) -> list[str]:
    """Give the strings of a string or a list; numbers and booleans as Go writes them into a string field."""
    items = value if isinstance(value, list) else [value]
    found = []
    for item in items:
        if isinstance(item, bool):
            found.append("true" if item else "false")
        elif isinstance(item, str | int | float):
            found.append(str(item))
    return [text for text in found if text]


class Known:
    """What is known of blobs by their ids: parsed kustomizations, and files that passed the YAML limits.

    Blob ids stand for contents, so nothing here can go out of date; old entries make room.
    """

    def __init__(self, size: int = _REMEMBERED) -> None:
        self._size = size
        self._kustomizations: OrderedDict[str, JSON] = OrderedDict()
        self._passed: OrderedDict[str, None] = OrderedDict()

    async def kustomization(self, blob: str, content: bytes, path: str) -> JSON:
        """Parse a kustomization file, once per blob; the caller must not change what it gets.

        Raises:
            YamlError: it is no YAML, gives a key twice, or is no mapping.
        """
        found = self._kustomizations.get(blob)
        if found is None:
            found = await asyncio.to_thread(_one_mapping, content, path)
            _remember(self._kustomizations, blob, found, self._size)
        return found

    async def check(
        self, files: Mapping[str, tuple[str, bytes]], inline: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Refuse YAML files that would keep kustomize busy without end.

        Args:
            files: path -> blob id and content.
            inline: path of a kustomization and YAML that it holds in place.

        Raises:
            YamlLimit: one nests too deeply or expands too far. Other faults are left to kustomize.
        """
        for path, text in inline:
            if _suspicious(text.encode()):
                await asyncio.to_thread(_check_all, {path: text.encode()})
        fresh = {path: entry for path, entry in files.items() if entry[0] not in self._passed}
        if fresh:
            await asyncio.to_thread(_check_all, {path: content for path, (_, content) in fresh.items()})
        for blob, _ in fresh.values():
            _remember(self._passed, blob, None, self._size)


def _remember(kept: OrderedDict[str, _V], key: str, value: _V, size: int) -> None:
    kept[key] = value
    while len(kept) > size:
        kept.popitem(last=False)


def _one_mapping(content: bytes, path: str) -> JSON:
    documents = yaml.parse(content, path, unique=True)
    # As sigs.k8s.io/yaml reads it: the first document alone.
    value = documents[0].value if documents else None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise yaml.YamlError("a kustomization must be a mapping", file=path, line=documents[0].line)
    return value


def _check_all(contents: Mapping[str, bytes]) -> None:
    for path, content in contents.items():
        if not _suspicious(content):
            continue
        try:
            yaml.check(content, path)
        except yaml.YamlLimit:
            raise
        except yaml.YamlError:
            # kustomize finds it too, and says it in its own words.
            continue


def _suspicious(content: bytes) -> bool:
    """Tell whether a text could nest or expand at all; most cannot, and need no parsing here."""
    if len(content) > yaml.LIMITS.size or content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content:
        return True
    if b"&" in content and _ALIAS.search(content):
        return True
    if content.count(b"{") + content.count(b"[") > _BRACKETS:
        return True
    return _INDENTED.search(content) is not None
