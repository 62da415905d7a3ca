"""The work queue against a model that is too simple to be wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gitwright.runtime.queue import WorkQueue

Key = tuple[str, str]

_keys = st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["1", "2", "3"]))
_delays = st.sampled_from([0.0, 0.0, 0.5, 3.0, 10.0])


@dataclass
class Model:
    """Waiting keys with due time and priority; keys that are out with what was added meanwhile."""

    waiting: dict[Key, tuple[float, int]] = field(default_factory=dict)
    out: dict[Key, tuple[float, int] | None] = field(default_factory=dict)

    def add(self, key: Key, due: float, priority: int) -> None:
        place = self.out if key in self.out else self.waiting
        old = place.get(key)
        new = (due, priority) if old is None else (min(old[0], due), max(old[1], priority))
        if key in self.out:
            self.out[key] = new
        else:
            self.waiting[key] = new

    def due(self, now: float) -> dict[Key, int]:
        return {key: priority for key, (due, priority) in self.waiting.items() if due <= now}


class QueueLaws(RuleBasedStateMachine):
    """Any mix of calls, with the queue and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: WorkQueue[Key] = WorkQueue(lambda key: key[0])
        self.model = Model()
        self.failures: dict[Key, int] = {}
        self.now = 0.0

    @rule(key=_keys, priority=st.integers(-1, 2), after=_delays)
    def add(self, key: Key, priority: int, after: float) -> None:
        self.queue.add(key, self.now, priority, after)
        self.model.add(key, self.now + after, priority)

    @rule(key=_keys)
    def fail(self, key: Key) -> None:
        delay = self.queue.add_limited(key, self.now)
        failures = self.failures.get(key, 0)
        assert delay == min(900, 0.75 * 2**failures)
        self.failures[key] = failures + 1
        self.model.add(key, self.now + delay, 0)

    @rule(key=_keys)
    def forget(self, key: Key) -> None:
        self.queue.forget(key)
        self.failures.pop(key, None)

    @rule()
    def take(self) -> None:
        due = self.model.due(self.now)
        key = self.queue.take(self.now)
        if not due:
            assert key is None
            return
        assert key is not None
        assert key not in self.model.out, "taken twice without done"
        assert due[key] == max(due.values()), "a higher priority was due"
        del self.model.waiting[key]
        self.model.out[key] = None

    @precondition(lambda self: self.model.out)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.out)))
        self.queue.done(key, self.now)
        again = self.model.out.pop(key)
        if again is not None:
            self.model.waiting[key] = again

    @rule(seconds=st.sampled_from([0.1, 0.75, 5.0, 60.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.queue) == len(self.model.waiting)
        assert all(key in self.queue for key in self.model.waiting)
        dues = [max(due, self.now) for due, _ in self.model.waiting.values()]
        assert self.queue.next_due(self.now) == (min(dues) if dues else None)
        depth = {priority: count for priority, count in self.queue.depth(self.now).items() if count}
        wanted = list(self.model.due(self.now).values())
        assert depth == {priority: wanted.count(priority) for priority in wanted}


TestQueueLaws = QueueLaws.TestCase
TestQueueLaws.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 30)), min_size=1, max_size=60, unique=True),
    st.integers(1, 4),
)
def test_between_two_turns_of_a_namespace_every_other_has_at_most_one(
    entries: list[tuple[str, int]], out: int
) -> None:
    """A namespace that has keys waits for one key of each other namespace, not more."""
    queue: WorkQueue[tuple[str, int]] = WorkQueue(lambda key: key[0])
    for entry in entries:
        queue.add(entry, 0)
    left = {namespace: sum(1 for one, _ in entries if one == namespace) for namespace, _ in entries}
    since: dict[str, list[str]] = {namespace: [] for namespace in left}
    taken: list[tuple[str, int]] = []
    for _ in entries:
        key = queue.take(0)
        assert key is not None
        taken.append(key)
        if len(taken) > out:
            queue.done(taken.pop(0), 0)
        for namespace in left:
            if namespace != key[0] and left[namespace]:
                assert key[0] not in since[namespace], "two turns while another namespace waited"
                since[namespace].append(key[0])
        since[key[0]] = []
        left[key[0]] -= 1
    assert queue.take(0) is None
