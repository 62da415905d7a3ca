"""Where gitwright shows something else than Flux on purpose: at most ten entries, each exact.

An entry names one recording, snapshot and path, the value shown there, and why it is
better. One that no longer occurs fails the run.
"""

from __future__ import annotations

from tests.real.compare import Allowed

LIMIT = 10

ALLOWED: tuple[Allowed, ...] = ()
