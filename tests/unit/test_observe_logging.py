"""Logs: the shape of a line, and that nothing secret leaves in one."""

from __future__ import annotations

import io
import logging as stdlib
from collections.abc import Iterator

import orjson
import pytest
import structlog

from gitwright.core.objects import JSON
from gitwright.observe import logging
from gitwright.observe.logging import Format
from gitwright.observe.redact import Redactor

NOW = 1_700_000_000.1234


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = stdlib.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def configured(format: Format = "json", level: str = "info") -> tuple[io.StringIO, Redactor]:
    stream, redactor = io.StringIO(), Redactor()
    logging.configure(level, format, stream, redactor, now=lambda: NOW)
    return stream, redactor


def lines(stream: io.StringIO) -> list[JSON]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_flux_fields() -> None:
    """Time, level, logger and message come first, then the object and what was bound."""
    stream, _ = configured()
    log = logging.for_object(
        logging.get("kustomize"),
        "Kustomization",
        "apps",
        "web",
        "kustomize.toolkit.fluxcd.io",
        revision="main@sha1:1",
    )
    log.info("server-side apply completed", output={"Service/apps/web": "created"})
    (line,) = lines(stream)
    assert list(line)[:4] == ["ts", "level", "logger", "msg"]
    assert line == {
        "ts": "2023-11-14T22:13:20.123Z",
        "level": "info",
        "logger": "kustomize",
        "msg": "server-side apply completed",
        "controllerKind": "Kustomization",
        "controllerGroup": "kustomize.toolkit.fluxcd.io",
        "Kustomization": {"name": "web", "namespace": "apps"},
        "namespace": "apps",
        "name": "web",
        "revision": "main@sha1:1",
        "output": {"Service/apps/web": "created"},
    }


def test_levels_filter() -> None:
    """Lines below the level are not written, and an unknown level is refused."""
    stream, _ = configured(level="error")
    logging.get("x").info("no")
    logging.get("x").error("yes")
    assert [line["msg"] for line in lines(stream)] == ["yes"]
    with pytest.raises(ValueError, match="loud"):
        logging.configure("loud", "json", stream, Redactor())


def test_no_secret_leaves_in_any_part_of_a_line() -> None:
    """Message, fields, names in nested fields, bytes, objects and tracebacks are all cleaned."""
    stream, redactor = configured()
    secret = 'se"cret\nvalue'
    redactor.taint(secret)
    redactor.taint("hunter22")

    class Told:
        def __str__(self) -> str:
            return "told hunter22"

    try:
        raise RuntimeError(f"the {secret} got out")
    except RuntimeError:
        logging.get("x").exception(
            "hunter22", field="hunter22", nested={"hunter22": [b"hunter22", (secret,)]}, told=Told()
        )
    (line,) = lines(stream)
    assert line["msg"] == "***"
    assert line["error"] == "the *** got out"
    assert "RuntimeError: the *** got out" in line["stacktrace"]
    assert "hunter22" not in stream.getvalue()
    assert "cret" not in stream.getvalue().replace("secret", "")


def test_lines_of_libraries_take_the_same_way() -> None:
    """Warnings of the standard library's logging appear as our lines, cleaned."""
    stream, redactor = configured()
    redactor.taint("hunter22")
    try:
        raise OSError("no hunter22")
    except OSError:
        stdlib.getLogger("aiohttp.server").error("failed for %s", "hunter22", exc_info=True)
    stdlib.getLogger("aiohttp.access").info("not of interest")
    (line,) = lines(stream)
    assert (line["logger"], line["level"], line["msg"], line["error"]) == (
        "aiohttp.server",
        "error",
        "failed for ***",
        "no ***",
    )


def test_configuring_again_replaces() -> None:
    """A logger from before follows the new stream, and lines are not written twice."""
    log = logging.get("x")
    first, _ = configured()
    second, _ = configured()
    log.info("once")
    stdlib.getLogger("y").warning("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 2


def test_text_for_terminals_cannot_steer_the_terminal() -> None:
    """Control characters are shown, values with blanks are quoted, a second line is no new entry."""
    stream, _ = configured("text")
    logging.get("git").info("a\x1b[31mred\nline", name="web", error="not found", nested={"a": 1})
    assert stream.getvalue() == (
        "2023-11-14T22:13:20.123Z INFO    a\\x1b[31mred\n"
        '    line name=web error="not found" nested={"a": 1} logger=git\n'
    )


def test_what_json_cannot_hold_is_written_all_the_same() -> None:
    """Huge numbers and file names that are no UTF-8 do not raise from a log call."""
    stream, _ = configured()
    logging.get("x").info("odd", number=2**70, name="\udcff")
    (line,) = lines(io.StringIO(stream.getvalue().replace(str(2**70), "1")))
    assert line["number"] == 1


def test_a_closed_stream_does_not_raise() -> None:
    """An engine whose terminal is gone goes on."""
    stream, _ = configured()
    stream.close()
    logging.get("x").info("nobody hears")


def test_a_huge_field_is_cut() -> None:
    """One line cannot fill the disk."""
    stream, _ = configured()
    logging.get("x").info("big", diff="y" * 100_000)
    assert len(stream.getvalue()) < 34_000
    assert "more characters" in lines(stream)[0]["diff"]


def test_text_names_an_object_once() -> None:
    """On a terminal an object is Kind/namespace/name, not four fields that say the same."""
    stream, _ = configured("text")
    log = logging.for_object(logging.get("x"), "Kustomization", "apps", "web", "kustomize.toolkit.fluxcd.io")
    log.info("reconciled", seconds=1)
    line = stream.getvalue()
    assert "reconciled Kustomization/apps/web seconds=1" in line
    assert "controllerGroup" not in line
