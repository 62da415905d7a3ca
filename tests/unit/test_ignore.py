"""Which files an artifact leaves out."""

from __future__ import annotations

import time

import pytest

from gitwright.artifact.ignore import Pattern, lines, matcher


def excluded(pattern: str, path: str, *, is_dir: bool = False) -> bool:
    """Tell whether one pattern matches a path."""
    return Pattern.parse(pattern).matches(path.split("/"), is_dir)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("a.yaml", "a.yaml", True),
        ("a.yaml", "deep/er/a.yaml", True),
        ("docs", "docs/x/a.md", True),
        ("docs/", "docs/a.md", True),
        ("docs/", "docs", False),
        ("/docs", "docs/a.md", True),
        ("/docs", "x/docs/a.md", False),
        ("docs/*.md", "docs/a.md", True),
        ("docs/*.md", "docs/x/a.md", False),
        ("*.tar.gz", "x/a.tar.gz", True),
        ("**/flux.yaml", "flux.yaml", True),
        ("**/flux.yaml", "a/b/flux.yaml", True),
        ("a/**", "a/b/c", True),
        ("a/**/c", "a/b/x/c", True),
        ("a/**/c", "a/b/x/d", False),
        ("a**b/c", "axb/c", False),
        ("[ab].txt", "b.txt", True),
        ("[^ab].txt", "b.txt", False),
        ("[a-c]1", "b1", True),
        ("[", "[", False),
        ("[]a]", "a", False),
        ("a?c", "abc", True),
        ("\\!a", "!a", True),
        ("a\\ ", "a ", True),
        ("a   ", "a", True),
        ("*a*b*c", "xaybzc", True),
        ("*a*b*c", "xaybzcd", False),
    ],
)
def test_pattern(pattern: str, path: str, matches: bool) -> None:
    """A pattern matches as Flux's matcher reads it."""
    assert excluded(pattern, path) is matches


def test_a_directory_pattern_matches_the_directory_itself() -> None:
    """A pattern that ends in a slash speaks of directories."""
    assert excluded("docs/", "docs", is_dir=True)
    assert excluded("/a/docs/", "a/docs", is_dir=True)
    assert not excluded("/a/docs/", "a/docs")


def test_defaults_hold_when_there_is_no_pattern() -> None:
    """Without any pattern version control, pictures, archives and CI files stay out, nothing else."""
    rules = matcher({}, None)
    out = [".gitignore", "x/.gitmodules", "a/b.png", "a.tar.gz", ".github/workflows/a.yaml", ".sops.yaml"]
    out += ["x/.goreleaser.yml", "cloudbuild.yaml", ".gitattributes", "sub/.travis.yml"]
    assert [path for path in out if not rules.excludes(path)] == []
    kept = ["a.yaml", "png/b.yaml", "gitignore", ".sourceignore", "a.sops.yaml", "README.md", "a.tgz"]
    assert [path for path in kept if rules.excludes(path)] == []


def test_any_pattern_switches_the_long_list_off() -> None:
    """With one pattern only version control files stay out besides."""
    rules = matcher({}, "*.md\n")
    assert rules.excludes("README.md")
    assert rules.excludes("x/.gitignore")
    assert not rules.excludes("a.png")
    assert not rules.excludes(".github/a.yaml")


def test_a_spec_without_patterns_leaves_the_defaults() -> None:
    """Comments and empty lines are no patterns."""
    rules = matcher({".sourceignore": "# nothing\r\n\n"}, "\n  \n# nothing\n")
    assert rules.excludes("a.png")


def test_everything_but_a_directory() -> None:
    """Flux's usual allow list keeps one directory."""
    rules = matcher({}, "/*\n!/deploy\n")
    assert rules.excludes("a.yaml")
    assert rules.excludes("x/deploy/a.yaml")
    assert not rules.excludes("deploy/a.yaml")
    assert not rules.excludes("deploy/x/a.yaml")


def test_ignore_files_count_below_their_directory_and_spec_has_the_last_word() -> None:
    """A file's patterns apply below it; deeper ones come later, spec.ignore last."""
    rules = matcher({".sourceignore": "*.txt\n", "sub/.sourceignore": "!keep.txt\n/only\n"}, "!last.txt")
    assert rules.excludes("a.txt")
    assert rules.excludes("keep.txt")
    assert not rules.excludes("sub/keep.txt")
    assert rules.excludes("sub/only/a")
    assert not rules.excludes("only/a")
    assert not rules.excludes("x/last.txt")


def test_version_control_can_be_taken_back_in() -> None:
    """A user's pattern comes after the ones of version control."""
    assert not matcher({}, "!.gitignore").excludes(".gitignore")


def test_a_hostile_pattern_stays_fast() -> None:
    """Matching takes time in proportion to the name, whatever the pattern (S12)."""
    pattern = Pattern.parse("*a" * 30 + "b")
    began = time.perf_counter()
    assert not pattern.matches(["a" * 255], False)
    assert time.perf_counter() - began < 0.5


def test_a_thousand_lines_are_read() -> None:
    """Reading keeps order and drops nothing."""
    assert len(lines("\n".join(f"f{number}" for number in range(1000)))) == 1000
