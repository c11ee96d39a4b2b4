"""Costs of a row: the totals by hand, the family of one run, and what stated factors make of them."""

from datetime import date

import pytest
from factories import make_failed, make_record

from bench.config import Depth
from bench.records import Stored
from bench.results import Phase
from leaderboard.costs import Factors, totals
from leaderboard.ranking import aggregate
from leaderboard.reviews import Review
from leaderboard.site import build, row_page
from leaderboard.text import energy, grams, memory, operations

PHASES = (
    Phase(name="tokenizer", kind="common", seconds=2.0, shared_by=10, joules=20.0, flops=0.0),
    Phase(name="teacher training", kind="teacher", seconds=60.0, devices=2, shared_by=6, joules=600.0, flops=6e9),
    Phase(name="teacher decoding", kind="distillation", seconds=12.0, shared_by=2, joules=100.0, flops=4e9),
    Phase(name="student training", kind="training", seconds=60.0, shared_by=3, joules=300.0, flops=3e9),
    Phase(name="online teacher passes", kind="distillation", seconds=6.0, shared_by=3, joules=30.0, flops=3e9),
    Phase(name="trials", kind="tuning", seconds=90.0, shared_by=3, joules=900.0, flops=9e9),
    Phase(name="final decoding", kind="evaluation", seconds=5.0, joules=50.0, flops=1e9),
    Phase(name="interrupted", kind="interrupted", seconds=1000.0, joules=9e9),
)


def test_each_total_adds_what_the_one_before_leaves_out():
    found = totals([make_record(phases=PHASES)])
    assert [total.seconds.mean for total in found] == pytest.approx([20.0, 28.0, 48.0, 83.2])
    assert [total.flops for total in found] == pytest.approx([1e9, 4e9, 5e9, 9e9])
    assert [total.joules for total in found] == pytest.approx([100.0, 160.0, 260.0, 612.0])


def test_totals_are_means_over_seeds():
    records = [make_record(seed=seed, training_seconds=time) for seed, time in ((1, 60.0), (2, 90.0))]
    student = totals(records)[0]
    assert (student.seconds.mean, student.seconds.count) == (75.0, 2)
    assert student.seconds.deviation == pytest.approx(21.2132, abs=1e-4)


def test_what_was_not_measured_has_no_total():
    found = totals([make_record(phases=(PHASES[3], PHASES[0].model_copy(update={"joules": None, "flops": None})))])
    assert [total.joules for total in found] == [100.0, 100.0, 100.0, None]
    assert [total.flops for total in found] == [1e9, 1e9, 1e9, None]


def test_rows_of_one_run_are_a_family_whose_costs_are_those_of_all(tmp_path):
    def phases(decoding):
        return (
            Phase(name="teacher training", kind="teacher", seconds=70.0, joules=7.0, artifact="t"),
            Phase(name="student training", kind="training", seconds=60.0, flops=6e9, artifact="run"),
            Phase(name="final decoding", kind="evaluation", seconds=decoding, flops=1e9),
        )

    records = [
        make_record("aio_kd", depth=Depth(2, 2), bleu=12.0, phases=phases(5.0)),
        make_record("aio_kd", depth=Depth(3, 3), bleu=11.0, phases=phases(8.0)),
        make_record("other", bleu=10.0, phases=(phases(1.0)[0], phases(1.0)[1].model_copy(update={"artifact": "own"}))),
    ]
    (table,) = aggregate(records)
    small, large, alone = table.rows
    assert table.family(small) == table.family(large) == (small, large)
    assert table.family(alone) == (alone,)
    # Training 60 once, 2 of 3 shares of the teacher, and the decoding of each.
    assert [total.seconds.mean for total in table.family_costs(small)] == pytest.approx(
        [60, 60, 60 + 140 / 3, 73 + 140 / 3]
    )
    assert [total.flops for total in table.family_costs(large)][:2] == [6e9, 6e9]
    assert table.family_costs(small)[-1].flops is None  # of the teacher's training
    page = build((Stored(record, tmp_path) for record in records), tmp_path / "site").parent / row_page(small)
    assert "one run for 2 rows took 1 min 00 s" in page.read_text()


def test_a_withdrawn_row_is_of_no_family():
    run = (Phase(name="student training", kind="training", seconds=60.0, artifact="run", shared_by=3),)
    records = [make_record("aio_kd", depth=Depth(depth, depth), bleu=depth, phases=run) for depth in (2, 3, 4)]
    row, day = records[0].row, date(2026, 1, 1)
    gone = Review(dataset="synthetic", row=row, verdict="unreliable", by="M", date=day, note="No.")
    (table,) = aggregate(records, reviews=[gone])
    *others, withdrawn = table.rows
    assert [table.family(row) for row in table.rows] == [tuple(others), tuple(others), (withdrawn,)]
    assert [table.family_costs(row)[0].seconds.mean for row in others] == [60.0, 60.0]


def test_a_row_that_failed_has_no_costs():
    assert totals([]) == ()
    ((row,),) = [table.rows for table in aggregate([make_failed()])]
    assert row.costs == ()


def test_factors_are_the_users_and_apply_only_to_what_was_measured():
    assert Factors().grams(3.6e6) is None
    assert Factors().price(3600.0) is None
    stated = Factors(grams_per_kwh=350.0, price_per_hour=2.5)
    assert stated.grams(7.2e6) == 700.0
    assert stated.grams(None) is None
    assert stated.price(1800.0) == 1.25


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (operations(0.0), "0 FLOP"),
        (operations(999.4), "999 FLOP"),
        (operations(999.6), "1.00 kFLOP"),
        (operations(1.234e12), "1.23 TFLOP"),
        (operations(5e22), "50,000 EFLOP"),
        (energy(0.25), "0.25 J"),
        (energy(98_765.0), "98.8 kJ"),
        (grams(12.34), "12.3 g"),
        (memory(312_400_000), "312 MB"),
    ],
)
def test_amounts_have_three_digits_and_a_prefix(text, expected):
    assert text == expected
