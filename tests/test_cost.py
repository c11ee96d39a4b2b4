"""The ledger: phases that add up, joules beside seconds, and what it takes over from other processes."""

import json

import pytest

from bench.measure.cost import Ledger, column


class World:
    """A clock and a meter that only the test moves."""

    def __init__(self, monkeypatch):
        self.now = self.joules = 0.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def passes(self, seconds, joules=0.0):
        self.now += seconds
        self.joules += joules

    def ledger(self):
        return Ledger(lambda: self.joules)


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def test_an_inner_phase_is_charged_to_itself_only(world):
    ledger = world.ledger()
    with ledger.phase("outer"):
        world.passes(1, 10)
        with ledger.phase("inner"):
            world.passes(3, 5)
        world.passes(1, 2)
    world.passes(100, 100)  # in no phase
    assert json.loads(json.dumps(ledger.snapshot())) == {
        "outer": {"seconds": 2.0, "joules": 12.0, "flops": 0.0},
        "inner": {"seconds": 3.0, "joules": 5.0, "flops": 0.0},
    }


def test_short_pieces_of_queued_work_leave_the_open_phase_when_it_is_charged(world):
    """Without waiting for the device at each, whose marks tell how long they took there."""

    class Mark:
        def __init__(self, at):
            self.at = at

        def elapsed_time(self, later):
            return 1000 * (later.at - self.at)

    waits, queued = [], iter([1.0, 2.5, 4.0, 4.5])
    ledger = Ledger(lambda: world.joules, lambda: waits.append(1), lambda: Mark(next(queued)))
    with ledger.phase("training"):
        for _ in range(2):
            with ledger.part("teacher"):
                world.passes(0.1)  # to queue it
        world.passes(9.8, 100)
        assert len(waits) == 1
        assert ledger.seconds(["training", "teacher"]) == pytest.approx(10)
        assert column(ledger.snapshot(), "seconds") == pytest.approx({"teacher": 2, "training": 8})
        assert column(ledger.snapshot(), "joules") == pytest.approx({"teacher": 20, "training": 80})
        world.passes(1)
    assert column(ledger.snapshot(), "seconds") == pytest.approx({"teacher": 2, "training": 9})


def test_a_piece_that_failed_is_charged_and_no_more_than_there_was(world):
    class Mark:
        def elapsed_time(self, later):
            return 5000.0

    def run():
        with ledger.phase("training"), ledger.part("teacher"):
            world.passes(3)
            raise RuntimeError

    ledger = Ledger(lambda: None, mark=Mark)
    with pytest.raises(RuntimeError):
        run()
    assert column(ledger.snapshot(), "seconds") == {"teacher": 3, "training": 0}
    assert set(column(ledger.snapshot(), "joules").values()) == {None}


def test_where_nothing_is_queued_a_piece_is_a_phase(world):
    ledger = world.ledger()
    with ledger.phase("training"):
        world.passes(1, 10)
        with ledger.part("teacher"):
            world.passes(2, 5)
    assert column(ledger.snapshot(), "seconds") == {"training": 1, "teacher": 2}
    assert column(ledger.snapshot(), "joules") == {"training": 10, "teacher": 5}


def test_the_phases_add_up_to_the_time_at_any_moment(world):
    ledger = world.ledger()
    with ledger.phase("a"):
        world.passes(1)
        with ledger.phase("b"):
            world.passes(2)
            assert ledger.seconds() == 3
            assert ledger.seconds(["b"]) == 2
            assert sum(column(ledger.snapshot(), "seconds").values()) == 3


def test_a_resumed_ledger_goes_on_from_what_was_charged(world):
    ledger = world.ledger()
    ledger.restore({"training": {"seconds": 10.0, "joules": 1.0, "flops": 5.0}})
    with ledger.phase("training"):
        world.passes(2, 3)
    ledger.add_flops("training", 2.0)
    assert ledger.snapshot() == {"training": {"seconds": 12.0, "joules": 4.0, "flops": 7.0}}
    assert ledger.restored == 10


def test_what_another_process_charged_replaces_the_wait_for_it(world):
    ledger = world.ledger()
    with ledger.phase("set-up"):
        world.passes(20, 200)  # of which the other process accounts for 18 seconds; 5 more are from before
        ledger.absorb({"training": {"seconds": 23.0, "joules": 180.0, "flops": 9.0}}, restored=5.0)
        world.passes(1, 7)
    assert ledger.snapshot() == {
        "set-up": {"seconds": 3.0, "joules": 7.0, "flops": 0.0},
        "training": {"seconds": 23.0, "joules": 180.0, "flops": 9.0},
    }
    assert ledger.restored == 5


def test_what_was_measured_in_part_only_is_not_told(world):
    ledger = world.ledger()
    ledger.restore({"training": {"seconds": 10.0, "joules": None, "flops": 0.0}})
    with ledger.phase("training"):
        world.passes(2, 3)
    ledger.add_seconds("start", 1.0, 0.0)
    ledger.add_seconds("interrupted", 5.0, None)
    assert column(ledger.snapshot(), "joules") == {"training": None, "start": 0.0, "interrupted": None}


def test_a_meter_that_stops_leaves_the_seconds(monkeypatch):
    readings = iter([0.0, 1.0, *[None] * 4])
    ledger = Ledger(lambda: next(readings))
    with ledger.phase("a"):
        pass
    with ledger.phase("b"):
        pass
    assert column(ledger.snapshot(), "joules") == {"a": None, "b": None}


def test_queued_work_is_waited_for_at_each_change_of_phase():
    waits = []
    ledger = Ledger(synchronise=lambda: waits.append(1))
    with ledger.phase("a"), ledger.phase("b"):
        pass
    assert len(waits) == 4
