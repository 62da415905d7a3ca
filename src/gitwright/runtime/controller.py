"""A controller: takes keys from its queue and runs its reconciler on them.

Role in the flow: watches enqueue keys; the controller runs the reconciler for each,
never twice at the same time for one key, and turns what comes back into the next time.
Whatever a reconciler raises stays with its object (S13). It must not know what a
reconciler does. Source: design.md section 4; controller-runtime's controller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gitwright.core.errors import GitwrightError
from gitwright.observe import logging
from gitwright.observe.metrics import Metrics
from gitwright.runtime.queue import MAX_RETRY, MIN_RETRY, WorkQueue
from gitwright.runtime.slots import Places, Slot, Superseded

__all__ = ["Controller", "Outcome", "Reconciler", "Request", "Slot", "Superseded", "request_queue"]


@dataclass(frozen=True, slots=True)
class Request:
    """Which object to look at; `namespace` is empty for cluster-scoped ones."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reconciler tells the controller.

    Args:
        requeue_after: seconds until the object is to be looked at again; None leaves
            it to the watches.
        backoff: look again after the exponential back-off instead; `requeue_after`
            is then the longest it may become.
        gone: the object does not exist (any more), so what is counted about it is forgotten.
    """

    requeue_after: float | None = None
    backoff: bool = False
    gone: bool = False


class Reconciler(Protocol):
    """Makes one object's wishes true."""

    async def reconcile(self, request: Request, slot: Slot) -> Outcome:
        """Look at one object; raise only what nobody foresaw, and `Superseded`."""
        ...


def request_queue(
    *,
    minimum: float = MIN_RETRY,
    maximum: float = MAX_RETRY,
    jitter: Callable[[float], float] | None = None,
) -> WorkQueue[Request]:
    """Make the queue of a controller, in which namespaces take turns.

    Args:
        minimum: first back-off, in seconds.
        maximum: longest back-off, in seconds.
        jitter: changes each back-off; None leaves it.
    """
    return WorkQueue(lambda request: request.namespace, minimum=minimum, maximum=maximum, jitter=jitter)


class Controller:
    """Runs one reconciler over the keys of one queue.

    All methods are for the event loop's thread.

    Args:
        name: as in Flux's logs and metrics, such as `kustomization`.
        reconciler: looks at one object.
        concurrency: how many runs may work at the same time; runs that wait with
            their slot released do not count.
        queue: where keys wait; kept when the controller stops.
        clock: seconds, monotonic; the clock of `queue`.
        metrics: where runs are counted.
        log: where runs that failed are told.
        jitter: changes each `requeue_after`, so that objects of one interval spread;
            None leaves it. Source: Flux's --interval-jitter-percentage.
        kind: the kind of the objects, for logs and per-object metrics.
        group: its API group.
    """

    def __init__(
        self,
        name: str,
        reconciler: Reconciler,
        *,
        concurrency: int,
        queue: WorkQueue[Request],
        clock: Callable[[], float],
        metrics: Metrics,
        log: logging.Log,
        jitter: Callable[[float], float] | None = None,
        kind: str = "",
        group: str = "",
    ) -> None:
        self.name = name
        self._reconciler = reconciler
        self._queue = queue
        self._clock = clock
        self._metrics = metrics
        self._log = log.bind(controller=name)
        self._jitter = jitter
        self._kind = kind
        self._group = group
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._places = Places(concurrency, self._wake.set)
        self._runs: dict[Request, tuple[asyncio.Task[None], Slot]] = {}
        self._running = False
        self._grace: float | None = None
        metrics.max_workers.labels(name).set(concurrency)

    @property
    def running(self) -> int:
        """How many runs there are, those that wait included."""
        return len(self._runs)

    @property
    def active(self) -> int:
        """How many runs hold a worker place."""
        return self._places.used

    def enqueue(self, request: Request, priority: int = 0, after: float = 0.0, newer: bool = False) -> None:
        """Ask for an object to be looked at.

        Args:
            request: which object.
            priority: higher goes first.
            after: seconds from now.
            newer: what made this necessary is input that the current run, if there is
                one, does not have; the run then ends at its next safe point.
        """
        self._queue.add(request, self._clock(), priority, after)
        self._metrics.adds.labels(self.name, self.name).inc()
        run = self._runs.get(request)
        if newer and run is not None:
            run[1].newer.set()
        self._wake.set()

    def idle(self) -> bool:
        """Tell whether nothing runs and nothing is due."""
        if self._runs:
            return False
        now = self._clock()
        due = self._queue.next_due(now)
        return due is None or due > now

    async def settled(self) -> None:
        """Wait until the controller is idle; it must be running if a key is due."""
        while not self.idle():
            await self._ended.wait()

    async def run(self) -> None:
        """Run reconcilers until `stop` is called or this is cancelled.

        On cancellation all runs are cancelled at once. Keys of runs that were cut off
        stay in the queue, so a later `run` goes on where this one ended.

        Raises:
            RuntimeError: it runs already.
        """
        if self._running:
            raise RuntimeError(f"controller {self.name} runs already")
        self._running, self._grace, self._places.draining = True, None, False
        try:
            while self._grace is None:
                self._wake.clear()
                self._start_due()
                await self._pause()
            await self._drain(self._grace)
        finally:
            await self._cut_off()
            self._running = False
            self._pulse()

    async def stop(self, grace: float) -> None:
        """Stop: take nothing more, give runs time, cancel the rest, wait for `run` to end.

        Runs that only wait, with their slot released, are told to end at once.

        Args:
            grace: seconds that working runs are given.
        """
        if not self._running:
            return
        self._grace = grace
        self._wake.set()
        while self._running:
            await self._ended.wait()

    def _start_due(self) -> None:
        now = self._clock()
        while self._places.free:
            request = self._queue.take(now)
            if request is None:
                break
            slot = Slot(self._places)
            slot.open()
            self._metrics.queue_seconds.labels(self.name, self.name).observe(self._queue.waited(request))
            task = asyncio.create_task(self._run(request, slot), name=f"{self.name} {request}")
            self._runs[request] = (task, slot)
        self._measure(now)

    async def _pause(self) -> None:
        """Wait for a new key, a free place, or the next key to become due."""
        now = self._clock()
        due = self._queue.next_due(now) if self._places.free else None
        if due is None:
            await self._wake.wait()
            return
        timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _run(self, request: Request, slot: Slot) -> None:
        started = self._clock()
        result, gone = "error", False
        try:
            outcome = await self._reconciler.reconcile(request, slot)
            result, gone = self._schedule(request, outcome), outcome.gone
        except Superseded:
            result = "superseded"
            self._queue.add(request, self._clock())
        except asyncio.CancelledError:
            if self._cancelled():
                result = "cancelled"
                self._queue.add(request, self._clock())
                raise
            # Not ours: the reconciler let a cancellation inside of it get out.
            self._failed(request)
        except GitwrightError as error:
            self._ended_early(request, error)
        except Exception:
            self._failed(request)
        finally:
            self._finish(request, slot, result, self._clock() - started, gone=gone)

    @staticmethod
    def _cancelled() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def _schedule(self, request: Request, outcome: Outcome) -> str:
        now, after = self._clock(), outcome.requeue_after
        if outcome.backoff:
            self._queue.add_limited(request, now, ceiling=after)
            self._metrics.retries.labels(self.name, self.name).inc()
            # What backs off here is what Flux's reconcilers return as an error.
            return "error"
        self._queue.forget(request)
        if after is None:
            return "success"
        self._queue.add(request, now, after=self._jitter(after) if self._jitter else after)
        return "requeue_after"

    def _failed(self, request: Request) -> None:
        """Keep an unforeseen error with its object: tell of it, and try again later (S13)."""
        delay = self._queue.add_limited(request, self._clock())
        self._metrics.retries.labels(self.name, self.name).inc()
        self._metrics.reconcile_panics.labels(self.name).inc()
        log = logging.for_object(self._log, self._kind, request.namespace, request.name, self._group)
        log.error("reconciler failed unforeseen", retryAfter=round(delay, 3), exc_info=True)

    def _ended_early(self, request: Request, error: GitwrightError) -> None:
        """Try again later what could not even write down how it ended, mostly for want of an API server."""
        delay = self._queue.add_limited(request, self._clock())
        self._metrics.retries.labels(self.name, self.name).inc()
        log = logging.for_object(self._log, self._kind, request.namespace, request.name, self._group)
        log.warning("run ended early", reason=error.reason, error=str(error), retryAfter=round(delay, 3))

    def _finish(
        self, request: Request, slot: Slot, result: str, seconds: float, *, gone: bool = False
    ) -> None:
        del self._runs[request]
        now = self._clock()
        self._queue.done(request, now)
        slot.close()
        self._metrics.reconciled(self.name, result, seconds)
        self._metrics.work_seconds.labels(self.name, self.name).observe(seconds)
        if self._kind and gone:
            self._metrics.forget_object(self._kind, request.name, request.namespace)
        elif self._kind:
            self._metrics.object_reconciled(self._kind, request.name, request.namespace, seconds)
        self._measure(now)
        self._wake.set()
        self._pulse()

    async def _drain(self, grace: float) -> None:
        self._places.draining = True
        for _, slot in self._runs.values():
            if not slot.held:
                slot.newer.set()
        if self._runs:
            await asyncio.wait([task for task, _ in self._runs.values()], timeout=grace)

    async def _cut_off(self) -> None:
        tasks = [task for task, _ in self._runs.values()]
        for task in tasks:
            task.cancel()
        # Also a run that takes its time to end must have ended before another engine may act.
        while pending := [task for task in tasks if not task.done()]:
            await asyncio.wait(pending)
        for request, (_, slot) in list(self._runs.items()):
            # Cancelled before its first step, so it could not tidy up after itself.
            self._queue.add(request, self._clock())
            self._finish(request, slot, "cancelled", 0.0)

    def _measure(self, now: float) -> None:
        self._metrics.active_workers.labels(self.name).set(self._places.used)
        self._metrics.queue_depth(self.name, self._queue.depth(now))

    def _pulse(self) -> None:
        """Wake who waits for a run to end, without keeping the event set."""
        self._ended.set()
        self._ended.clear()
