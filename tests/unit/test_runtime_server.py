"""The engine's endpoints over real sockets."""

from __future__ import annotations

import asyncio
import io
import time
from pathlib import Path

import aiohttp
import structlog

from gitwright.observe import logging
from gitwright.observe.metrics import Metrics
from gitwright.observe.redact import Redactor
from gitwright.runtime.checks import describe
from gitwright.runtime.server import Server, watch_loop


async def get(
    server: Server, path: str, method: str = "GET", **headers: str
) -> tuple[int, str, dict[str, str]]:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, f"http://127.0.0.1:{server.port}{path}", headers=headers) as response,
    ):
        return response.status, (await response.read()).decode(), dict(response.headers)


async def test_health_and_readiness_answer_everybody() -> None:
    """Both answer without identity; not ready is 503 with the reason."""
    state = {"informers": (True, ""), "engine": (False, "preparing")}

    def ready() -> tuple[bool, str]:
        return all(ok for ok, _ in state.values()), describe(state)

    async with Server(host="127.0.0.1", port=0, ready=ready) as server:
        assert (await get(server, "/healthz"))[:2] == (200, "ok\n")
        assert (await get(server, "/readyz"))[:2] == (503, "[+] informers: ok\n[-] engine: preparing\n")
        state["engine"] = (True, "leading")
        status, text, headers = await get(server, "/readyz")
        assert (status, text) == (200, "[+] informers: ok\n[+] engine: leading\n")
        assert headers["Server"] == "gitwright"
        assert (await get(server, "/metrics"))[0] == 404
        assert (await get(server, "/healthz", "POST"))[0] == 405


async def test_metrics_ask_for_the_token_that_is_configured() -> None:
    """With a token configured, only its bearer sees the metrics."""
    metrics = Metrics.create()
    metrics.built("hit")
    async with Server(host="127.0.0.1", port=0, metrics=metrics, token="let-me-in") as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic let-me-in"}):
            status, text, answer = await get(server, "/metrics", **headers)
            assert status == 401
            assert "gitwright_builds" not in text
            assert answer["WWW-Authenticate"] == "Bearer"
        status, text, answer = await get(server, "/metrics", Authorization="Bearer let-me-in")
        assert status == 200
        assert 'gitwright_builds_total{result="hit"} 1.0' in text
        assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
    async with Server(host="127.0.0.1", port=0, metrics=metrics) as server:
        assert (await get(server, "/metrics"))[0] == 200


async def test_files_are_served_by_path_and_nothing_is_listed(tmp_path: Path) -> None:
    """GET and HEAD of a known path give the file as it is; a directory or anything else is 404."""
    archive = tmp_path / "abc.tar.gz"
    archive.write_bytes(b"content")
    known = {
        "gitrepository/apps/web/abc.tar.gz": archive,
        "directory": tmp_path,
        "": tmp_path,
        "gone": tmp_path / "x",
    }
    async with Server(host="127.0.0.1", port=0, files=known.get) as server:
        path = "/gitrepository/apps/web/abc.tar.gz"
        status, text, headers = await get(server, path, **{"Accept-Encoding": "gzip"})
        assert (status, text) == (200, "content")
        assert headers["Content-Type"] == "application/gzip"
        assert "Content-Encoding" not in headers
        status, text, headers = await get(server, path, "HEAD")
        assert (status, text, headers["Content-Length"]) == (200, "", "7")
        for other in ("/", "/directory", "/directory/", "/gone", "/unknown", "/gitrepository/../directory"):
            assert (await get(server, other))[:2] == (404, "404 page not found\n")
        assert (await get(server, "/healthz"))[0] == 200
        assert (await get(server, path, "PUT"))[0] == 405


async def test_a_late_event_loop_is_seen_and_told() -> None:
    """A blocked loop shows in the gauge, the counter and a warning."""
    stream = io.StringIO()
    logging.configure("info", "json", stream, Redactor())
    metrics = Metrics.create()
    task = asyncio.create_task(watch_loop(metrics, logging.get("loop"), interval=0.01))
    await asyncio.sleep(0)
    time.sleep(0.05)  # noqa: ASYNC251 -- the fault that is to be noticed
    for _ in range(20):
        if stream.getvalue():
            break
        await asyncio.sleep(0.005)
    task.cancel()
    structlog.reset_defaults()
    assert "event loop was late" in stream.getvalue()
    assert (metrics.registry.get_sample_value("gitwright_event_loop_stalls_total") or 0) >= 1
