"""The manager: who may act, what runs, in which order it starts and stops.

Role in the flow: starts the background tasks, waits for leadership, runs the
controllers while it lasts, and stops everything in order. It must not know what a
controller or a task does. Source: design.md section 4 (two engines never run; starts,
stops, is killed at any call, and loses nothing).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from gitwright.observe import logging
from gitwright.runtime.checks import Check, describe
from gitwright.runtime.controller import Controller
from gitwright.runtime.lease import Leases

_RESTART_FIRST = 1.0
_RESTART_LAST = 30.0


class Phase(Enum):
    """What a manager is doing."""

    STARTING = "starting"
    WAITING = "waiting to lead"
    PREPARING = "preparing"
    LEADING = "leading"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Background:
    """A task that runs for as long as the manager does, and is started again should it fail.

    Args:
        name: for logs and readiness.
        run: runs until it is cancelled.
    """

    name: str
    run: Callable[[], Awaitable[object]]


async def _nothing() -> None:
    return


@dataclass(slots=True)
class _State:
    phase: Phase = Phase.STARTING
    problem: str = ""
    failing: dict[str, str] = field(default_factory=dict)


class Manager:
    """Owns controllers, background tasks and leases.

    Args:
        controllers: run only while the leases are held.
        background: run from start to stop, so that a standby is warm when it takes over.
        leases: all of them are held while controllers run; None acts without.
        prepare: waited for after the leases are held and before controllers start, such
            as for the first lists of informers; may be called several times; while it
            raises, it is tried again.
        checks: further conditions of readiness, by name: whether it holds, and a text.
        grace: seconds that running reconciles are given on a stop.
        log: tells of the phases.
    """

    def __init__(
        self,
        *,
        controllers: Sequence[Controller],
        log: logging.Log,
        background: Sequence[Background] = (),
        leases: Leases | None = None,
        prepare: Callable[[], Awaitable[None]] = _nothing,
        checks: Mapping[str, Check] | None = None,
        grace: float = 30.0,
    ) -> None:
        self._controllers = tuple(controllers)
        self._background = tuple(background)
        self._leases = leases
        self._prepare = prepare
        self._checks = dict(checks or {})
        self._grace = grace
        self._log = log
        self._state = _State()

    @property
    def phase(self) -> Phase:
        """What the manager is doing now."""
        return self._state.phase

    def ready(self) -> tuple[bool, str]:
        """Tell whether the engine does its work, with one line per check.

        A standby that waits for another holder is ready: it does what it should, and a
        rolling update would otherwise never end.
        """
        phase = self._state.phase
        good = phase in (Phase.LEADING, Phase.WAITING)
        reason = phase.value
        if phase is Phase.WAITING and self._leases is not None and self._leases.waiting_for:
            reason = f"waiting for {self._leases.waiting_for}"
        elif self._state.problem:
            reason = f"{reason}: {self._state.problem}"
        results = {"engine": (good, reason)}
        results.update({name: (False, problem) for name, problem in self._state.failing.items()})
        results.update({name: check() for name, check in self._checks.items()})
        return all(ok for ok, _ in results.values()), describe(results)

    async def settled(self) -> None:
        """Wait until no controller has anything due or running, all at the same time."""
        while not all(controller.idle() for controller in self._controllers):
            for controller in self._controllers:
                await controller.settled()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until told to stop; gives the leases back at the end, whatever happens.

        Args:
            stop: set to stop in order. Cancellation stops at once.
        """
        tasks = [
            asyncio.create_task(self._supervise(task.name, task.run), name=task.name)
            for task in self._background
        ]
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            while not stop.is_set():
                if await self._lead_first(stopping):
                    await self._lead(stopping)
        finally:
            self._state.phase = Phase.STOPPING
            await _end([stopping, *tasks])
            self._state.phase = Phase.STOPPED

    async def _lead_first(self, stopping: asyncio.Task[bool]) -> bool:
        """Wait for the leases; tells whether they are held (else the manager is stopping)."""
        if self._leases is None:
            return True
        self._state.phase = Phase.WAITING
        acquiring = asyncio.create_task(self._leases.acquire(), name="acquire leases")
        try:
            await asyncio.wait((acquiring, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not acquiring.done():
                await _end([acquiring])
                await self._leases.release()
        if acquiring.cancelled():
            return False
        acquiring.result()
        return True

    async def _lead(self, stopping: asyncio.Task[bool]) -> None:
        """Act while the leases are held."""
        acting = asyncio.create_task(self._act(), name="controllers")
        # Cancelled from inside of the loss, so that nothing is waited for in between.
        losing = asyncio.create_task(self._hold(lambda reason: acting.cancel()), name="hold leases")
        try:
            await asyncio.wait((losing, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not losing.done():
                self._state.phase = Phase.STOPPING
                await self._stop_in_order(losing)
        finally:
            await _end([acting])
            await _end([losing])
            if self._leases is not None:
                await self._leases.release()

    async def _stop_in_order(self, losing: asyncio.Task[None]) -> None:
        """Let runs end while the leases are still renewed."""
        graceful = asyncio.gather(*(controller.stop(self._grace) for controller in self._controllers))
        try:
            await asyncio.wait((graceful, losing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end([graceful])

    async def _hold(self, on_lost: Callable[[str], object]) -> None:
        if self._leases is None:
            await asyncio.get_running_loop().create_future()
        else:
            await self._leases.hold(on_lost)

    async def _act(self) -> None:
        self._state.phase = Phase.PREPARING
        await self._until_prepared()
        self._state.phase = Phase.LEADING
        self._log.info("controllers run", controllers=[controller.name for controller in self._controllers])
        async with asyncio.TaskGroup() as group:
            for controller in self._controllers:
                group.create_task(self._run_controller(controller), name=controller.name)

    async def _until_prepared(self) -> None:
        delay = _RESTART_FIRST
        while True:
            try:
                await self._prepare()
            except Exception as error:
                self._state.problem = str(error) or type(error).__name__
                self._log.warning("cannot start controllers yet", exc_info=True)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RESTART_LAST)
            else:
                self._state.problem = ""
                return

    async def _run_controller(self, controller: Controller) -> None:
        await self._supervise(controller.name, controller.run, forever=False)

    async def _supervise(self, name: str, run: Callable[[], Awaitable[object]], forever: bool = True) -> None:
        """Run something that should not end, and start it again when it does."""
        delay = _RESTART_FIRST
        while True:
            try:
                await run()
                if not forever:
                    return
                self._state.failing[name] = "ended"
                self._log.error("background task ended", task=name)
            except Exception as error:
                self._state.failing[name] = str(error) or type(error).__name__
                self._log.error("background task failed", task=name, exc_info=True)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _RESTART_LAST)
            del self._state.failing[name]


async def _end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until they have ended; errors they end with are told by their owners."""
    pending = list(tasks)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
