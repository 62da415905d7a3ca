"""The manager without leases, in virtual time; with leases it is tested on a real API server."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator

import pytest
import structlog

from gitwright.observe import logging
from gitwright.observe.metrics import Metrics
from gitwright.observe.redact import Redactor
from gitwright.runtime.controller import Controller, Outcome, Request, Slot, request_queue
from gitwright.runtime.manager import Background, Manager, Phase
from tests.unit import virtual_time


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


class Work:
    """A reconciler that works for five seconds and writes down when."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def reconcile(self, request: Request, slot: Slot) -> Outcome:
        now = asyncio.get_running_loop().time
        self.log.append(f"{request.name} begins@{now():g}")
        await asyncio.sleep(5)
        self.log.append(f"{request.name} ends@{now():g}")
        return Outcome()


def controller_of(work: Work) -> Controller:
    return Controller(
        "x",
        work,
        concurrency=2,
        queue=request_queue(),
        clock=asyncio.get_running_loop().time,
        metrics=Metrics.create(),
        log=logging.get("x"),
    )


def quiet() -> logging.Log:
    logging.configure("info", "json", io.StringIO(), Redactor())
    return logging.get("manager")


def test_controllers_start_when_prepared_and_end_in_order() -> None:
    """Nothing is reconciled before the caches are filled; a stop lets what runs end."""

    async def main() -> None:
        work, synced, stop = Work(), asyncio.Event(), asyncio.Event()
        controller = controller_of(work)

        async def prepare() -> None:
            await synced.wait()

        manager = Manager(controllers=[controller], log=quiet(), prepare=prepare, grace=30)
        assert manager.ready() == (False, "[-] engine: starting")
        task = asyncio.create_task(manager.run(stop))
        controller.enqueue(Request("apps", "web"))
        await asyncio.sleep(10)
        assert manager.phase is Phase.PREPARING
        assert not manager.ready()[0]
        synced.set()
        await asyncio.sleep(1)
        assert manager.ready() == (True, "[+] engine: leading")
        stop.set()
        await task
        assert work.log == ["web begins@10", "web ends@15"]
        assert manager.phase.value == "stopped"

    virtual_time.run(main())


def test_preparing_is_tried_again() -> None:
    """An API server that is away at the start is waited for, and readiness says what is wrong."""

    async def main() -> None:
        tries: list[float] = []
        stop = asyncio.Event()

        async def prepare() -> None:
            tries.append(asyncio.get_running_loop().time())
            if len(tries) < 3:
                raise OSError("connection refused")

        manager = Manager(controllers=[], log=quiet(), prepare=prepare)
        task = asyncio.create_task(manager.run(stop))
        await asyncio.sleep(0.5)
        assert manager.ready() == (False, "[-] engine: preparing: connection refused")
        await asyncio.sleep(10)
        assert manager.ready()[0]
        assert tries == [0, 1, 3]
        stop.set()
        await task

    virtual_time.run(main())


def test_a_background_task_that_fails_is_started_again_and_shown() -> None:
    """A failure of one task stops nothing else, shows in readiness, and is repaired."""

    async def main() -> None:
        starts: list[float] = []
        stop, work = asyncio.Event(), Work()

        async def task() -> None:
            starts.append(asyncio.get_running_loop().time())
            if len(starts) == 1:
                raise ValueError("broken pipe")
            await asyncio.sleep(1000)

        controller = controller_of(work)
        manager = Manager(
            controllers=[controller],
            log=quiet(),
            background=[Background("events", task)],
            checks={"disk": lambda: (True, "free")},
        )
        running = asyncio.create_task(manager.run(stop))
        controller.enqueue(Request("apps", "web"))
        await asyncio.sleep(0.5)
        assert manager.ready() == (False, "[+] engine: leading\n[-] events: broken pipe\n[+] disk: free")
        await manager.settled()
        assert manager.ready()[0]
        assert starts == [0, 1]
        assert work.log == ["web begins@0", "web ends@5"]
        stop.set()
        await running

    virtual_time.run(main())


def test_cancelling_ends_everything_at_once() -> None:
    """Whatever runs has ended when the manager has."""

    async def main() -> None:
        work, stop = Work(), asyncio.Event()
        controller = controller_of(work)
        manager = Manager(
            controllers=[controller], log=quiet(), background=[Background("b", asyncio.Event().wait)]
        )
        task = asyncio.create_task(manager.run(stop))
        controller.enqueue(Request("apps", "web"))
        await asyncio.sleep(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert controller.running == 0
        assert work.log == ["web begins@0"]
        assert asyncio.get_running_loop().time() == 2
        assert len(asyncio.all_tasks()) == 1

    virtual_time.run(main())
