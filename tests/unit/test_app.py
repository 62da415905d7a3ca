"""The composition root: what it keeps on disk survives a kill at any moment."""

from __future__ import annotations

from pathlib import Path

from gitwright.app import _artifact_key
from gitwright.settings import Settings


def test_the_key_of_artifact_addresses_is_kept(tmp_path: Path) -> None:
    """The same key at every start, readable by nobody else, and no other file beside it."""
    first = _artifact_key(Settings(), tmp_path)
    assert len(first) == 64
    assert _artifact_key(Settings(), tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == ["artifact.key"]
    assert (tmp_path / "artifact.key").stat().st_mode & 0o777 == 0o600


def test_a_key_file_that_was_never_written_is_made_anew(tmp_path: Path) -> None:
    """An empty file, as a kill or a full disk leaves it, does not keep the engine from starting."""
    (tmp_path / "artifact.key").touch()
    assert len(_artifact_key(Settings(), tmp_path)) == 64


def test_a_key_of_ones_own_is_taken_from_its_file(tmp_path: Path) -> None:
    """Without the newline at its end; nothing is written to the storage."""
    given = tmp_path / "key"
    given.write_text("0123456789abcdef\n")
    storage = tmp_path / "storage"
    storage.mkdir()
    assert _artifact_key(Settings(artifact_key_file=str(given)), storage) == b"0123456789abcdef"
    assert list(storage.iterdir()) == []
