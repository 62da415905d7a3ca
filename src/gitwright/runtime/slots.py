"""Worker places of a controller, and the place that one run holds.

Role in the flow: a controller gives each run a `Slot`; a run gives its place back
while it waits for something else, so that waiting costs nobody a worker. It must not
know what a run does. Source: design.md section 4 (cancelled by newer input only
between stages, or while rendering or waiting).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class Superseded(Exception):
    """Newer input arrived for the object, so this run ends here and another begins.

    No GitwrightError on purpose: nothing went wrong, no condition or event tells of
    it, and handlers of real errors let it pass to the controller.
    """


class Places:
    """A number of worker places; who comes back from waiting goes before who is new.

    Args:
        count: how many runs may work at the same time.
        changed: called when a place became free.
    """

    def __init__(self, count: int, changed: Callable[[], None]) -> None:
        if count < 1:
            raise ValueError("a controller needs at least one worker place")
        self._count = count
        self._free = count
        self._returning: deque[asyncio.Future[None]] = deque()
        self._changed = changed
        self.draining = False

    @property
    def free(self) -> int:
        """How many places nobody holds."""
        return self._free

    @property
    def used(self) -> int:
        """How many places are held."""
        return self._count - self._free

    def take(self) -> None:
        """Take a free place.

        Raises:
            RuntimeError: there is none.
        """
        if not self._free:
            raise RuntimeError("no worker place is free")
        self._free -= 1

    async def take_back(self) -> None:
        """Wait for a place, in the order of asking."""
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._returning.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # The place was handed over in the moment of the cancellation.
                self.give()
            raise

    def give(self) -> None:
        """Give a place back: to who waits longest to return, else to whoever comes."""
        while self._returning:
            turn = self._returning.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
        self._changed()


class Slot:
    """The worker place of one run, and its ear for newer input.

    Made by the controller; one per run.

    Attributes:
        newer: set once newer input for the object arrived, or once the controller is
            stopping while this run only waits.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._held = False
        self._waiting = 0
        self.newer = asyncio.Event()

    @property
    def held(self) -> bool:
        """Whether the run holds its worker place now."""
        return self._held

    def open(self) -> None:
        """Take the place at the start of the run; for the controller.

        Raises:
            RuntimeError: no place is free.
        """
        self._places.take()
        self._held = True

    def close(self) -> None:
        """Give the place back at the end of the run; for the controller."""
        if self._held:
            self._held = False
            self._places.give()

    def stage(self) -> None:
        """Say that the run is between two stages, where newer input may end it.

        Raises:
            Superseded: newer input has arrived.
        """
        if self.newer.is_set():
            raise Superseded

    @asynccontextmanager
    async def released(self) -> AsyncIterator[None]:
        """Give the worker place back for the time of a wait, and take it again after.

        Also after an error, which the run may well handle; but not on cancellation.
        May be nested.
        """
        self._waiting += 1
        if self._waiting == 1:
            self.close()
            if self._places.draining:
                self.newer.set()
        try:
            yield
        except Exception:
            await self._return()
            raise
        except BaseException:
            self._waiting -= 1
            raise
        else:
            await self._return()

    async def interruptible(self, work: Awaitable[T]) -> T:
        """Wait for work that newer input may cancel, such as rendering or a health check.

        Args:
            work: cancelled when newer input arrives, and waited for until it has ended.

        Returns:
            What the work gives.

        Raises:
            Superseded: newer input has arrived.
        """
        task = asyncio.ensure_future(work)
        ear = asyncio.ensure_future(self.newer.wait())
        try:
            await asyncio.wait((task, ear), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Superseded
            return task.result()
        finally:
            ear.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
                if not task.cancelled():
                    # What it raised while being cancelled is of no use to anybody.
                    task.exception()

    async def _return(self) -> None:
        self._waiting -= 1
        if self._waiting == 0:
            await self._places.take_back()
            self._held = True
