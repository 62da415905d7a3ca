"""The work queue: examples of each promise."""

from __future__ import annotations

import pytest

from gitwright.runtime.queue import WorkQueue

Key = tuple[str, str]


def make() -> WorkQueue[Key]:
    return WorkQueue(lambda key: key[0])


def drain(queue: WorkQueue[Key], now: float) -> list[Key]:
    taken = []
    while (key := queue.take(now)) is not None:
        taken.append(key)
        queue.done(key, now)
    return taken


def test_a_key_added_twice_is_taken_once() -> None:
    """Equal keys merge."""
    queue = make()
    queue.add(("a", "1"), 0)
    queue.add(("a", "1"), 0)
    assert len(queue) == 1
    assert drain(queue, 0) == [("a", "1")]
    assert queue.next_due(0) is None


def test_a_key_that_is_out_is_not_given_again_until_done() -> None:
    """A key added while it is out comes again after done, once."""
    queue = make()
    queue.add(("a", "1"), 0)
    assert queue.take(0) == ("a", "1")
    queue.add(("a", "1"), 1)
    queue.add(("a", "1"), 1)
    assert ("a", "1") in queue
    assert queue.take(2) is None
    assert queue.next_due(2) is None
    queue.done(("a", "1"), 3)
    assert drain(queue, 3) == [("a", "1")]


def test_done_of_a_key_that_is_not_out_is_an_error() -> None:
    """Done belongs to exactly one take."""
    queue = make()
    queue.add(("a", "1"), 0)
    with pytest.raises(KeyError):
        queue.done(("a", "1"), 0)


def test_higher_priority_goes_first() -> None:
    """Priorities order what is due; equals go in the order of arrival."""
    queue = make()
    queue.add(("a", "low"), 0, priority=-1)
    queue.add(("a", "one"), 0)
    queue.add(("a", "two"), 0)
    queue.add(("a", "high"), 0, priority=5)
    assert queue.depth() == {-1: 1, 0: 2, 5: 1}
    assert [name for _, name in drain(queue, 0)] == ["high", "one", "two", "low"]
    assert queue.depth() == {-1: 0, 0: 0, 5: 0}


def test_adding_again_keeps_the_higher_priority_and_the_earlier_time() -> None:
    """No addition makes a key later or less urgent than it was."""
    queue = make()
    queue.add(("a", "1"), 0, priority=3, after=100)
    queue.add(("a", "1"), 0, priority=1, after=10)
    assert queue.next_due(0) == 10
    queue.add(("a", "2"), 10, priority=2)
    assert [name for _, name in drain(queue, 10)] == ["1", "2"]
    assert queue.next_due(1000) is None


def test_a_delayed_key_is_taken_when_due_and_not_before() -> None:
    """Delays hold to the moment."""
    queue = make()
    queue.add(("a", "1"), 100, after=5)
    assert queue.take(104.9) is None
    assert queue.next_due(104.9) == 105
    assert queue.take(105) == ("a", "1")


def test_what_is_added_while_out_keeps_its_delay_and_priority() -> None:
    """The additions of the time between take and done merge like any others."""
    queue = make()
    queue.add(("a", "1"), 0)
    queue.take(0)
    queue.add(("a", "1"), 0, priority=1, after=50)
    queue.add(("a", "1"), 0, priority=4, after=20)
    queue.done(("a", "1"), 5)
    assert queue.next_due(5) == 20
    assert queue.depth(20) == {0: 0, 4: 1}


def test_namespaces_take_turns() -> None:
    """A namespace with many keys does not make the others wait for all of them."""
    queue = make()
    for number in range(4):
        queue.add(("busy", str(number)), 0)
    queue.add(("calm", "x"), 0)
    queue.add(("mild", "y"), 0)
    assert [namespace for namespace, _ in drain(queue, 0)] == ["busy", "calm", "mild", "busy", "busy", "busy"]


def test_back_off_doubles_up_to_the_maximum() -> None:
    """Each failure in a row waits twice as long, from 0.75 s to 15 minutes."""
    queue = make()
    delays = [queue.add_limited(("a", "1"), 0) for _ in range(12)]
    assert delays == [0.75, 1.5, 3, 6, 12, 24, 48, 96, 192, 384, 768, 900]
    assert queue.retries(("a", "1")) == 12
    assert queue.next_due(0) == 0.75
    for _ in range(2000):
        assert queue.add_limited(("a", "1"), 0) == 900


def test_forget_ends_the_back_off_and_nothing_else() -> None:
    """After a success the next failure starts anew; a key that waits goes on waiting."""
    queue = make()
    queue.add_limited(("a", "1"), 0)
    queue.add_limited(("a", "1"), 0)
    queue.forget(("a", "1"))
    assert queue.retries(("a", "1")) == 0
    assert len(queue) == 1
    assert queue.add_limited(("a", "1"), 0) == 0.75


def test_back_off_has_a_ceiling_and_a_jitter() -> None:
    """A caller may bound one delay, and the queue's owner spread all of them."""
    queue = WorkQueue[Key](lambda key: key[0], minimum=10, maximum=100, jitter=lambda delay: delay * 1.5)
    assert queue.add_limited(("a", "1"), 0) == 15
    assert queue.add_limited(("a", "1"), 0, ceiling=4) == 6


def test_the_wait_from_due_to_taken_is_known() -> None:
    """The time a key was late can be measured while it is out."""
    queue = make()
    queue.add(("a", "1"), 0, after=5)
    assert queue.take(8) == ("a", "1")
    assert queue.waited(("a", "1")) == 3
    queue.done(("a", "1"), 9)
    with pytest.raises(KeyError):
        queue.waited(("a", "1"))


def test_memory_stays_in_bounds_when_a_key_is_brought_forward_again_and_again() -> None:
    """Entries of the heap that no longer count are dropped before they are due."""
    queue = make()
    for number in range(10_000):
        queue.add(("a", "1"), 0, after=100_000 - number)
    assert len(queue) == 1
    assert len(queue._delayed) < 100
    assert queue.next_due(0) == 90_001
