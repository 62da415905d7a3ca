"""Controllers in virtual time: serial per key, barrier, slots, newer input, stopping."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest
import structlog

from gitwright.core.errors import Transient
from gitwright.observe import logging
from gitwright.observe.metrics import Metrics
from gitwright.observe.redact import Redactor
from gitwright.runtime.controller import Controller, Outcome, Request, Slot, Superseded, request_queue
from tests.unit import virtual_time

WEB = Request("apps", "web")
Run = Callable[[Request, Slot], Awaitable[Outcome]]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@dataclass
class Reconciler:
    """What is run, as a function."""

    run: Run

    async def reconcile(self, request: Request, slot: Slot) -> Outcome:
        return await self.run(request, slot)


class Bench:
    """A controller on the loop's clock, run while the block is open."""

    def __init__(self, run: Run, concurrency: int = 1) -> None:
        self.stream = io.StringIO()
        self.redactor = Redactor()
        logging.configure("info", "json", self.stream, self.redactor)
        self.metrics = Metrics.create()
        self.controller = Controller(
            "kustomization",
            Reconciler(run),
            concurrency=concurrency,
            queue=request_queue(),
            clock=asyncio.get_running_loop().time,
            metrics=self.metrics,
            log=logging.get("test"),
            kind="Kustomization",
        )
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Controller:
        self.task = asyncio.create_task(self.controller.run())
        return self.controller

    async def __aexit__(self, *_: object) -> None:
        await self.controller.stop(0)
        assert self.task is not None
        await self.task

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_key_is_reconciled_and_settles() -> None:
    """What is enqueued runs once, and then the controller is idle."""

    async def main() -> None:
        seen: list[Request] = []

        async def run(request: Request, _: Slot) -> Outcome:
            await asyncio.sleep(1)
            seen.append(request)
            return Outcome()

        bench = Bench(run)
        async with bench as controller:
            controller.enqueue(WEB)
            controller.enqueue(WEB)
            assert not controller.idle()
            await controller.settled()
            assert seen == [WEB]
            assert controller.idle()
        assert (
            bench.value("controller_runtime_reconcile_total", controller="kustomization", result="success")
            == 1
        )
        assert bench.value("controller_runtime_active_workers", controller="kustomization") == 0

    virtual_time.run(main())


def test_a_key_never_runs_twice_at_the_same_time() -> None:
    """A key enqueued while it runs runs again after, with places to spare."""

    async def main() -> None:
        spans: list[tuple[float, float]] = []

        async def run(_: Request, __: Slot) -> Outcome:
            start = now()
            await asyncio.sleep(2)
            spans.append((start, now()))
            return Outcome()

        async with Bench(run, concurrency=4) as controller:
            controller.enqueue(WEB)
            await asyncio.sleep(1)
            controller.enqueue(WEB)
            controller.enqueue(WEB)
            await controller.settled()
        assert spans == [(0, 2), (2, 4)]

    virtual_time.run(main())


def test_no_more_runs_work_than_there_are_places() -> None:
    """Concurrency bounds the runs that work."""

    async def main() -> None:
        most = 0

        async def run(_: Request, __: Slot) -> Outcome:
            nonlocal most
            most = max(most, bench.controller.active)
            await asyncio.sleep(1)
            return Outcome()

        bench = Bench(run, concurrency=3)
        async with bench as controller:
            for number in range(9):
                controller.enqueue(Request("apps", str(number)))
            await controller.settled()
            assert most == 3
            assert now() == 3

    virtual_time.run(main())


def test_a_run_that_waits_does_not_cost_a_place() -> None:
    """Others work while a run waits with its slot released, and it comes back before who is new."""

    async def main() -> None:
        order: list[str] = []

        async def run(request: Request, slot: Slot) -> Outcome:
            if request.name == "waiter":
                async with slot.released():
                    assert not slot.held
                    await asyncio.sleep(1.5)
                assert slot.held
            else:
                await asyncio.sleep(1)
            order.append(f"{request.name}@{now():g}")
            return Outcome()

        async with Bench(run) as controller:
            controller.enqueue(Request("apps", "waiter"), priority=1)
            for name in ("one", "two", "three"):
                controller.enqueue(Request("apps", name))
            await controller.settled()
        assert order == ["one@1", "two@2", "waiter@2", "three@3"]

    virtual_time.run(main())


def test_places_are_whole_after_errors_and_cancellations_of_waits() -> None:
    """Whatever ends a wait, no place is lost and none is gained."""

    async def main() -> None:
        async def run(request: Request, slot: Slot) -> Outcome:
            if request.name == "raises":
                async with slot.released():
                    raise OSError("gone")
            if request.name == "times out":
                try:
                    async with asyncio.timeout(0.5), slot.released():
                        await asyncio.sleep(10)
                except TimeoutError:
                    return Outcome()
            async with slot.released(), slot.released():
                await asyncio.sleep(3)
            return Outcome()

        bench = Bench(run, concurrency=2)
        async with bench as controller:
            for name in ("raises", "times out", "nested"):
                controller.enqueue(Request("apps", name))
            await asyncio.sleep(0.6)
            await controller.settled()
            assert controller.active == 0
            controller.enqueue(Request("apps", "cut"))
            await asyncio.sleep(1)
            assert (controller.running, controller.active) == (1, 0)
        assert (controller.running, controller.active) == (0, 0)

    virtual_time.run(main())


def test_what_a_reconciler_raises_stays_with_its_object() -> None:
    """A poisoned object backs off, is told of without secrets, and others go on (S13, S17)."""

    async def main() -> None:
        bad: list[float] = []

        async def run(request: Request, _: Slot) -> Outcome:
            if request.name == "bad":
                bad.append(now())
                raise {0: ValueError, 1: RecursionError, 2: asyncio.CancelledError}.get(
                    len(bad) % 3, KeyError
                )("the hunter22 value")
            return Outcome()

        bench = Bench(run)
        bench.redactor.taint("hunter22")
        async with bench as controller:
            controller.enqueue(Request("apps", "bad"))
            for number in range(5):
                controller.enqueue(Request("apps", str(number)))
            await controller.settled()
            await asyncio.sleep(6)
        assert bad == [0, 0.75, 2.25, 5.25]
        assert (
            bench.value("controller_runtime_reconcile_total", controller="kustomization", result="success")
            == 5
        )
        assert bench.value("controller_runtime_reconcile_panics_total", controller="kustomization") == 4
        told = bench.stream.getvalue()
        assert "hunter22" not in told
        assert '"name":"bad"' in told
        assert "Traceback" in told

    virtual_time.run(main())


def test_a_run_that_cannot_write_its_end_is_tried_again_and_no_panic() -> None:
    """An error of the API server that a reconciler lets out is retried, and told without a traceback."""

    async def main() -> None:
        times: list[float] = []

        async def run(_: Request, __: Slot) -> Outcome:
            times.append(now())
            if len(times) < 3:
                raise Transient("the server is away")
            return Outcome()

        bench = Bench(run)
        async with bench as controller:
            controller.enqueue(WEB)
            await asyncio.sleep(10)
        assert times == [0, 0.75, 2.25]
        assert bench.value("controller_runtime_reconcile_panics_total", controller="kustomization") == 0
        assert bench.value("controller_runtime_reconcile_errors_total", controller="kustomization") == 2
        log = bench.stream.getvalue()
        assert "the server is away" in log
        assert "Traceback" not in log

    virtual_time.run(main())


def test_outcomes_say_when_the_object_is_looked_at_again() -> None:
    """A time, a back-off with a ceiling, or nothing; success ends the back-off."""

    async def main() -> None:
        script = [
            Outcome(backoff=True),
            Outcome(backoff=True),
            Outcome(backoff=True, requeue_after=2.0),
            Outcome(requeue_after=60),
            Outcome(backoff=True),
            Outcome(),
        ]
        times: list[float] = []

        async def run(_: Request, __: Slot) -> Outcome:
            times.append(now())
            return script[len(times) - 1]

        async with Bench(run) as controller:
            controller.enqueue(WEB)
            await asyncio.sleep(1000)
        assert times == [0, 0.75, 2.25, 4.25, 64.25, 65]

    virtual_time.run(main())


def test_what_is_counted_about_an_object_ends_with_it() -> None:
    """The series of an object that is gone are dropped, so that they do not pile up."""

    async def main() -> None:
        outcomes = [Outcome(), Outcome(gone=True)]

        async def run(_: Request, __: Slot) -> Outcome:
            return outcomes.pop(0)

        bench = Bench(run)
        count = "gotk_reconcile_duration_seconds_count"
        labels = {"kind": "Kustomization", "name": WEB.name, "namespace": WEB.namespace}
        async with bench as controller:
            for expected in (1, 0):
                controller.enqueue(WEB)
                await controller.settled()
                found = bench.metrics.registry.get_sample_value(count, labels)
                assert (found or 0) == expected

    virtual_time.run(main())


def test_intervals_are_spread_by_the_jitter() -> None:
    """A requeue time passes through the jitter, so that equal intervals do not meet."""

    async def main() -> None:
        times: list[float] = []

        async def run(_: Request, __: Slot) -> Outcome:
            times.append(now())
            return Outcome(requeue_after=10)

        controller = Controller(
            "x",
            Reconciler(run),
            concurrency=1,
            queue=request_queue(),
            clock=now,
            metrics=Metrics.create(),
            log=logging.get("test"),
            jitter=lambda seconds: seconds * 1.5,
        )
        task = asyncio.create_task(controller.run())
        controller.enqueue(WEB)
        await asyncio.sleep(31)
        await controller.stop(0)
        await task
        assert times == [0, 15, 30]

    virtual_time.run(main())


def test_newer_input_ends_a_run_between_stages_only() -> None:
    """A stage is never torn; the run ends at the boundary and another begins at once."""

    async def main() -> None:
        log: list[str] = []

        async def run(_: Request, slot: Slot) -> Outcome:
            for stage in ("one", "two"):
                slot.stage()
                await asyncio.sleep(2)
                log.append(f"{stage}@{now():g}")
            return Outcome()

        bench = Bench(run)
        async with bench as controller:
            controller.enqueue(WEB)
            await asyncio.sleep(1)
            controller.enqueue(WEB, newer=True)
            await controller.settled()
        assert log == ["one@2", "one@4", "two@6"]
        assert (
            bench.value("controller_runtime_reconcile_total", controller="kustomization", result="superseded")
            == 1
        )
        assert (
            bench.value("controller_runtime_reconcile_total", controller="kustomization", result="error") == 0
        )

    virtual_time.run(main())


def test_input_that_is_not_newer_does_not_end_a_run() -> None:
    """A mere reason to look again waits for the end of the run."""

    async def main() -> None:
        log: list[float] = []

        async def run(_: Request, slot: Slot) -> Outcome:
            await asyncio.sleep(2)
            slot.stage()
            log.append(now())
            return Outcome()

        async with Bench(run) as controller:
            controller.enqueue(WEB)
            await asyncio.sleep(1)
            controller.enqueue(WEB)
            await controller.settled()
        assert log == [2, 4]

    virtual_time.run(main())


def test_newer_input_cancels_waiting_and_rendering() -> None:
    """Interruptible work is cancelled, has ended before the run does, and gives its result otherwise."""

    async def main() -> None:
        log: list[str] = []

        async def render() -> str:
            try:
                await asyncio.sleep(100)
            finally:
                log.append(f"ended@{now():g}")
            return "rendered"

        async def run(_: Request, slot: Slot) -> Outcome:
            try:
                async with slot.released():
                    log.append(await slot.interruptible(render()))
            except Superseded:
                log.append("superseded")
                raise
            return Outcome()

        async with Bench(run) as controller:
            controller.enqueue(WEB)
            await asyncio.sleep(5)
            controller.enqueue(WEB, newer=True)
            await controller.settled()
        assert log == ["ended@5", "superseded", "ended@105", "rendered"]

    virtual_time.run(main())


def test_a_graceful_stop_lets_work_end_and_cuts_waits() -> None:
    """Working runs get their grace, waiting ones end at once, nothing new begins, nothing is lost."""

    async def main() -> None:
        log: list[str] = []

        async def run(request: Request, slot: Slot) -> Outcome:
            if request.name == "waits":
                async with slot.released():
                    await slot.interruptible(asyncio.sleep(1000))
            try:
                await asyncio.sleep(5 if request.name == "short" else 100)
            except asyncio.CancelledError:
                log.append(f"{request.name} cut@{now():g}")
                raise
            log.append(f"{request.name} ended@{now():g}")
            return Outcome()

        queue = request_queue()
        bench = Bench(run, concurrency=3)
        controller = Controller(
            "x",
            Reconciler(run),
            concurrency=2,
            queue=queue,
            clock=now,
            metrics=bench.metrics,
            log=logging.get("x"),
        )
        task = asyncio.create_task(controller.run())
        for name in ("waits", "short", "long", "never begun"):
            controller.enqueue(Request("apps", name))
        await asyncio.sleep(1)
        await controller.stop(grace=10)
        assert task.done()
        assert now() == 11
        assert log == ["short ended@5", "long cut@11"]
        assert len(queue) == 3
        assert all(Request("apps", name) in queue for name in ("waits", "long", "never begun"))

    virtual_time.run(main())


def test_a_wait_that_begins_while_stopping_ends_at_once() -> None:
    """A run that comes to its health check during the grace does not use it up."""

    async def main() -> None:
        async def run(_: Request, slot: Slot) -> Outcome:
            await asyncio.sleep(2)
            async with slot.released():
                await slot.interruptible(asyncio.sleep(1000))
            return Outcome()

        bench = Bench(run)
        async with bench as controller:
            controller.enqueue(WEB)
            await asyncio.sleep(1)
            await controller.stop(grace=30)
            assert now() == 2

    virtual_time.run(main())


def test_cancelling_stops_at_once_and_the_next_run_goes_on() -> None:
    """When leadership is lost nothing goes on; when it is back, what was cut off runs again."""

    async def main() -> None:
        log: list[str] = []

        async def run(request: Request, _: Slot) -> Outcome:
            log.append(f"begin@{now():g}")
            await asyncio.sleep(10)
            log.append(f"end@{now():g}")
            return Outcome()

        bench = Bench(run)
        controller = bench.controller
        task = asyncio.create_task(controller.run())
        controller.enqueue(WEB)
        await asyncio.sleep(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (controller.running, controller.active) == (0, 0)
        await asyncio.sleep(100)
        assert log == ["begin@0"]
        async with bench:
            await controller.settled()
        assert log == ["begin@0", "begin@103", "end@113"]

    virtual_time.run(main())


def test_a_run_cancelled_before_its_first_step_is_not_lost() -> None:
    """Even a run that never came to life gives its place and its key back."""

    async def main() -> None:
        async def run(_: Request, __: Slot) -> Outcome:
            raise AssertionError("must not begin")

        bench = Bench(run)
        controller = bench.controller
        controller.enqueue(WEB)
        task = asyncio.create_task(controller.run())
        await asyncio.sleep(0)
        assert controller.running == 1
        task.cancel()
        next(one for one in asyncio.all_tasks() if one.get_name() == "kustomization apps/web").cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (controller.running, controller.active) == (0, 0)
        assert not controller.idle()

    virtual_time.run(main())
