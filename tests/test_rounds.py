"""Interleaved rounds, by a clock of the test's own, and the figures taken from them."""

from __future__ import annotations

import pytest

from bench.measure.rounds import LEAST_SECONDS, Figure, Part, Sample, interleaved, ratio


class Machine:
    """Carries out parts that say how long they take, and writes down which."""

    def __init__(self) -> None:
        self.now, self.slower, self.done = 0.0, 1.0, list[str]()

    def part(self, name: str, seconds: float, units: float = 1.0, **more: float) -> Part:
        def run() -> None:
            self.now += seconds * self.slower
            self.done.append(name)

        return Part(run, units, **more)

    def timed(self, work) -> float:
        began = self.now
        work()
        return self.now - began


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_all_works_take_part_in_each_round_there_and_back_again(machine):
    works = {name: lambda _, name=name: [machine.part(name, 1.0)] for name in "abc"}
    said = []
    found = interleaved(works, 3, machine.timed, announce=said.append)
    assert "".join(machine.done) == "cba" + "abc" + "cba" + "abc"
    assert [len(samples) for samples in found.values()] == [3, 3, 3]
    assert said == ["warming up", "round 1 of 3", "round 2 of 3", "round 3 of 3"]


def test_a_work_is_told_the_round_and_the_warm_up_is_dropped(machine):
    found = interleaved({"a": lambda number: [machine.part("a", 10.0 + number, units=20.0)]}, 2, machine.timed)
    assert [(each.seconds, each.units) for each in found["a"]] == [(11.0, 20.0), (12.0, 20.0)]


@pytest.mark.parametrize("first", [0.5, 1.5])
def test_what_is_short_is_repeated_by_what_the_second_call_took(machine, first):
    took = iter([first * LEAST_SECONDS] + [LEAST_SECONDS / 10] * 100)

    def work(_):
        return [Part(lambda: setattr(machine, "now", machine.now + next(took)), units=3.0)]

    (sample,) = interleaved({"a": work}, 1, machine.timed)["a"]
    assert sample.seconds == pytest.approx(LEAST_SECONDS / 10)
    assert sample.rate == pytest.approx(30 / LEAST_SECONDS)
    assert len(list(took)) == 101 - 2 - 10


def test_what_is_long_runs_once_a_round(machine):
    interleaved({"a": lambda _: [machine.part("a", 10 * LEAST_SECONDS)]}, 2, machine.timed)
    assert len(machine.done) == 3


def test_parts_count_by_their_shares(machine):
    parts = [machine.part("first", 1.0, 8.0, flops=4.0, share=0.75), machine.part("second", 3.0, 8.0, share=0.25)]
    (sample,) = interleaved({"a": lambda _: parts}, 1, machine.timed)["a"]
    assert sample == Sample(seconds=1.5, units=8.0, flops=3.0)
    assert (sample.rate, sample.flop_rate) == (pytest.approx(8 / 1.5), 2.0)


def test_a_machine_that_slows_down_changes_rates_and_no_ratio(machine):
    def slowing(number):
        machine.slower = 2.0**number
        return [machine.part("a", 1.0)]

    found = interleaved({"a": slowing, "b": lambda _: [machine.part("b", 4.0)]}, 1, machine.timed)
    found |= {name: samples * 2 for name, samples in found.items()}
    rates = {name: [each.rate * slower for each, slower in zip(found[name], (1, 3))] for name in found}
    assert Figure.of(rates["a"]).spread == pytest.approx(1.0)
    assert ratio(rates["b"], rates["a"]) == Figure(0.25, 0.0)


def test_a_figure_is_the_median_and_how_far_apart_the_extremes_are():
    assert Figure.of([2.0, 5.0, 4.0]) == Figure(4.0, 0.75)
    assert Figure.of([0.0, 0.0]) == Figure(0.0, 0.0)
    assert ratio([6.0, 2.0, 8.0], [2.0, 2.0, 4.0]) == Figure(2.0, 1.0)  # not 6 by 2, the medians
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])
