"""Which rows have a place in the ranking, by hand-computed cases, and the reasons of those that have none."""

import pytest
from factories import make_failed, make_record, make_sweep, plain, seeds, tuned

from bench.config import Depth
from leaderboard.ranking import aggregate

OFF_THE_LIST = "its trials had other shared values than the plain student's"
BATCH = {"training": {"batch_tokens": 512, "accumulation": 2}, "teacher_training": {"batch_tokens": 100}}


@pytest.mark.parametrize(
    ("records", "reasons"),
    [
        (seeds("m", [1.0, 2.0]), ("2 of 3 seeds finished",)),
        (seeds("m", [1.0, 2.0, 3.0], recipe={"seeds": 5}), ("3 of 5 seeds finished",)),
        (seeds("m", [1.0, 2.0, 3.0], recipe={"seeds": 1}), ()),
        (seeds("m", [1.0], recipe={"seeds": 1}), ("1 of 3 seeds finished",)),
        ([*seeds("m", [1.0, 2.0, 3.0]), make_failed("m", 4, "lost")], ("seed 4 failed: lost",)),
        ([make_failed("m", 1, "lost")], ("seed 1 failed: lost", "0 of 3 seeds finished")),
    ],
)
def test_incomplete_rows_are_never_placed(records, reasons):
    (table,) = aggregate(plain() + records)
    (row,) = [row for row in table.rows if row.sample.method.name == "m"]
    assert row.unplaced == reasons
    assert (row in table.placed) == (not reasons)
    assert (row in table.unplaced) == bool(reasons)


def test_seeds_that_were_run_differently_are_never_placed():
    odd = make_record("m", 3)
    odd = odd.model_copy(update={"method": odd.method.model_copy(update={"settings": {"alpha": 0.9}})})
    (table,) = aggregate([*seeds("m", [1.0, 2.0]), odd])
    assert "not run alike" in table.unplaced[0].unplaced[0]


def test_seeds_with_other_winners_or_other_trials_are_never_placed():
    sweep, other = make_sweep([18.0, 21.0, 20.0], "m"), make_sweep([18.0, 21.0, 22.0], "m")
    third = make_sweep([18.0, 21.0, 20.0], "m", rates=[0.003, 0.004, 0.0077])
    for odd in (other, third):
        records = [*tuned("m", [1.0] * 3, sweep)[:2], *tuned("m", [1.0] * 3, odd)[2:]]
        (table,) = aggregate(records)
        assert "not run alike: recipe, settings, sweep" in table.unplaced[0].unplaced[0]
    assert len(aggregate(tuned("m", [1.0] * 3, sweep))[0].placed) == 1


def test_a_seed_that_was_added_elsewhere_may_have_run_the_trials_itself():
    """The same trials take another time there, and their last digits may differ."""
    here, there = make_sweep([18.0, 21.0, 20.0], "m"), make_sweep([18.01, 21.0, 19.99], "m", seconds=180.0)
    (table,) = aggregate([*tuned("m", [1.0] * 3, here)[:2], *tuned("m", [1.0] * 3, there)[2:]])
    assert [row.unplaced for row in table.rows] == [()]


def test_a_failed_seed_of_a_tuned_row_has_no_sweep_and_that_is_no_reason():
    records = tuned("m", [1.0] * 4, make_sweep(method="m"))
    failed = make_failed("m", 1, "lost", recipe={"tuning": records[0].recipe["tuning"]})
    (table,) = aggregate([failed, *records[1:]])
    (row,) = table.unplaced
    assert row.unplaced == ("seed 1 failed: lost",)
    assert row.sweep == records[1].sweep


@pytest.mark.parametrize(("made", "said"), [(2, "2 in place of the recipe's 3"), (3, None)])
def test_a_row_with_another_number_of_trials_than_its_recipe_is_never_placed(made, said):
    recipe = tuned("m", [1.0] * 3, make_sweep(method="m"))[0].recipe
    sweep = make_sweep([20.0] * made, "m")
    (table,) = aggregate(tuned("m", [1.0] * 3, sweep, {"tuning": recipe["tuning"]}))
    assert [reason for row in table.rows for reason in row.unplaced] == ([f"number of trials: {said}"] if said else [])


@pytest.mark.parametrize(
    ("rates", "track", "reasons"),
    [
        ((0.003, 0.004, 0.005), "official", ()),
        ((0.003, 0.004, 0.0051), "official", (OFF_THE_LIST,)),
        ((0.003, 0.005, 0.004), "official", (OFF_THE_LIST,)),
        ((0.003, 0.004, 0.0051), "open", ()),
    ],
)
def test_an_official_row_whose_trials_are_not_those_of_the_list_is_never_placed(rates, track, reasons):
    """A method's own values are its own affair."""
    how, recipe = ({}, {}) if track == "official" else ({"sampler": "tpe"}, {"tuning": {"trials": 3, "track": "open"}})
    baseline = make_sweep([20.0] * 3, "baseline", rates=(0.003, 0.004, 0.005), **how)
    sweep = make_sweep([20.0] * 3, "m", rates=rates, **how)
    other = [trial.model_copy(update={"values": trial.values | {"m.alpha": 0.9}}) for trial in sweep.trials]
    sweep = sweep.model_copy(update={"trials": tuple(other)})
    (table,) = aggregate(
        [
            *tuned("baseline", [1.0] * 3, baseline, recipe, role="baseline", track=track),
            *tuned("m", [2.0] * 3, sweep, recipe, track=track),
        ]
    )
    assert {row.sample.method.name: row.unplaced for row in table.rows} == {"m": reasons, "baseline": ()}


@pytest.mark.parametrize(
    ("kind", "limit", "spent", "placed"),
    [
        ("tokens", 180_000, 198_000, True),
        ("tokens", 180_000, 198_001, False),
        ("tokens", 1_000, 2_024, True),
        ("tokens", 1_000, 2_025, False),
        ("wall-clock", 90.0, 98.9, True),
        ("wall-clock", 90.0, 99.1, False),
        ("device-hours", 0.5, 0.54, True),
        ("device-hours", 0.5, 0.56, False),
    ],
)
def test_a_row_that_overspent_its_budget_is_never_placed(kind, limit, spent, placed):
    kept = {"kind": kind, "limit": limit, "spent": limit}
    records = [make_record("m", seed, budget=kept, recipe=BATCH) for seed in (1, 2)]
    records.append(make_record("m", 3, budget=kept | {"spent": spent}, recipe=BATCH))
    (row,) = aggregate(records)[0].rows
    assert row.unplaced == (() if placed else ("over 10 % more than its budget was spent for seed 3",))


def test_each_stage_may_end_with_a_whole_batch_of_its_own_training():
    budget = {"kind": "tokens", "limit": 1_000, "spent": 3_000}
    stages = make_record().training.model_copy(update={"stages": ({"name": "first"}, {"name": "second"})})
    fields = {"budget": budget, "recipe": BATCH}
    records = [
        *seeds("one", [3.0] * 3, **fields),
        *seeds("two", [2.0] * 3, training=stages, **fields),
        *seeds("teacher", [1.0] * 3, training=stages, role="teacher", depth=Depth(4, 4), **fields),
    ]
    (table,) = aggregate(records)
    assert [row.sample.method.name for row in table.placed] == ["two"]


@pytest.mark.parametrize("changed", ["splits", "processes"])
def test_seeds_trained_in_other_parts_or_by_other_processes_are_never_placed(changed):
    records = seeds("m", [1.0] * 3)
    training = records[2].training.model_copy(update={changed: 2})
    (table,) = aggregate([*records[:2], records[2].model_copy(update={"training": training})])
    assert "not run alike" in table.unplaced[0].unplaced[0]
    assert len(aggregate([record.model_copy(update={"training": training}) for record in records])[0].placed) == 1


def test_an_untuned_row_in_a_tuned_table_is_never_placed_but_the_teacher_is():
    tuning = {"tuning": tuned("m", [1.0] * 3, make_sweep(method="m"))[0].recipe["tuning"]}
    records = [*plain(recipe=tuning), *seeds("teacher", [9.0] * 3, role="teacher", depth=Depth(4, 4), recipe=tuning)]
    (table,) = aggregate(records)
    assert [row.sample.role for row in table.placed] == ["teacher"]
    assert table.unplaced[0].unplaced == ("number of trials: 1 in place of the recipe's 3",)
