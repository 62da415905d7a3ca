"""What Flux was recorded to do, replayed: gitwright shows the same, but for what it means to do better."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import corpus_path
from tests.real.allowed_differences import ALLOWED
from tests.real.compare import Difference, compare, edited_before, judge
from tests.real.conftest import AnyCluster, engines
from tests.real.player import Player, Recording
from tests.servers.git import GitServer

AT_ONCE = 6


@dataclass(frozen=True, slots=True)
class Played:
    """What came of one recording: the differences of each snapshot, or why it could not be played."""

    differences: Mapping[str, Sequence[Difference]]
    error: str = ""


def recordings() -> dict[str, Recording]:
    """Give the recordings that are not about Helm, by name; none without the corpus."""
    folder = corpus_path(os.environ) / "flux-recordings"
    found = [Recording.load(path) for path in sorted(folder.glob("*.json"))]
    return {recording.name: recording for recording in found if not recording.has_helm}


NAMES = sorted(recordings()) or ["the-corpus-is-missing"]


@pytest.fixture(scope="module")
def played(
    cluster: AnyCluster,
    git_server: GitServer,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[dict[str, Played]]:
    """Plays every selected recording, several at once against one engine: health checks take 30 s."""
    selected = {
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == Path(__file__) and isinstance(item, pytest.Function) and hasattr(item, "callspec")
    }
    chosen = [recording for name, recording in recordings().items() if name in selected]
    folder = tmp_path_factory.mktemp("recordings")
    with engines(cluster, folder, "recordings") as make:
        engine = make(flags={"concurrent": "16"})
        with engine.start():
            folders = [str(engine.folder / "tmp"), str(engine.storage)]
            yield asyncio.run(_play_all(chosen, cluster, git_server, folders))


async def _play_all(
    chosen: Sequence[Recording], cluster: AnyCluster, git: GitServer, folders: Sequence[str]
) -> dict[str, Played]:
    room = asyncio.Semaphore(AT_ONCE)
    async with cluster.api("user") as api:

        async def one(recording: Recording) -> Played:
            async with room:
                try:
                    shown = await Player(recording, api, git, folders).play()
                except Exception as error:
                    return Played({}, "".join(traceback.format_exception(error)))
                return Played(
                    {
                        label: compare(snapshot, shown[label], edited=edited_before(recording.steps, label))
                        for label, snapshot in recording.snapshots.items()
                    }
                )

        # Those that wait for a time limit start first.
        order = sorted(chosen, key=lambda recording: -recording.waits)
        results = await asyncio.gather(*map(one, order))
        return {recording.name: result for recording, result in zip(order, results, strict=True)}


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_is_shown_as_flux_showed_it(name: str, corpus: Path, played: dict[str, Played]) -> None:
    """Each snapshot of a recording shows what Flux showed, but for the differences that are meant."""
    result = played[name]
    assert not result.error, result.error
    refused, _ = judge(name, result.differences, ALLOWED)
    assert not refused, "\n".join(["not as Flux showed it:", *refused])


def test_every_allowed_difference_still_occurs(played: dict[str, Played]) -> None:
    """An allowed difference that no longer occurs fails the run."""
    used = [entry for name, result in played.items() for entry in judge(name, result.differences, ALLOWED)[1]]
    due = [entry for entry in ALLOWED if entry.recording in played]
    unused = [entry for entry in due if entry not in used]
    assert not unused, f"remove them from the list: {unused}"
