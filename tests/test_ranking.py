"""The ranking by hand-computed cases: means, costs, and what sets tables apart."""

from datetime import date

import pytest
from factories import make_failed, make_hypotheses, make_record, make_sweep, plain, seeds, tuned

from bench import ENGINE
from bench.config import Depth
from bench.results import Phase
from bench.ruleset import RULES, Ruleset
from leaderboard.ranking import Difference, aggregate, machine
from leaderboard.reviews import Review


def test_means_deviations_and_paired_differences():
    # Means 12 and 11. Differences 2, -1, 2: mean 1, standard deviation sqrt((1 + 4 + 1) / 2), two of three above.
    (table,) = aggregate(plain() + seeds("word_level", [12.0, 10.0, 14.0]))
    method, baseline = table.placed
    assert (method.sample.method.name, baseline.sample.method.name) == ("word_level", "baseline")
    assert method.bleu.mean == pytest.approx(12.0)
    assert method.bleu.deviation == pytest.approx(2.0)
    assert baseline.bleu.mean == pytest.approx(11.0)
    assert baseline.bleu.deviation == pytest.approx(1.0)
    assert method.difference.mean == pytest.approx(1.0)
    assert method.difference.deviation == pytest.approx(3**0.5)
    assert (method.difference.paired, method.difference.above, method.difference.below) == (3, 2, 1)
    assert baseline.difference is None
    assert table.baseline is baseline


def test_differences_without_common_seeds_are_of_means():
    others = [make_record("word_level", seed, bleu) for seed, bleu in ((1, 12.0), (2, 12.0), (9, 18.0))]
    (table,) = aggregate(plain() + others)
    assert table.placed[0].difference == Difference(pytest.approx(3.0), None, 0, 0, 0)


def test_a_difference_is_that_of_the_means_whatever_seeds_are_paired():
    """The plain student has seeds 4 and 5 besides: 13 - 14 is shown, as it is tested, though each pair is 3 apart."""
    (table,) = aggregate([*plain((10.0, 10.0, 10.0, 20.0, 20.0)), *seeds("m", [13.0] * 3)])
    (row,) = (row for row in table.rows if row.sample.method.name == "m")
    assert (row.difference.mean, row.difference.paired, row.difference.above) == (pytest.approx(-1.0), 3, 3)


def elsewhere(record, cpu="Other CPU", **fields):
    return record.model_copy(update={"environment": record.environment.model_copy(update={"cpu": cpu}), **fields})


def test_times_of_the_machine_that_most_rows_come_from_stand_side_by_side():
    phase = (Phase(name="student training", kind="training", seconds=60.0),)
    here = [*plain(), *seeds("m", [13.0] * 3)]
    far = [elsewhere(record) for record in seeds("n", [14.0] * 3)]
    mixed = [elsewhere(record) if record.seed == 1 else record for record in seeds("o", [15.0] * 3)]
    (table,) = aggregate([record.model_copy(update={"phases": phase}) for record in (*here, *far, *mixed)])
    assert {row.sample.method.name: bool(table.timed(row)) for row in table.rows} == {
        "baseline": True, "m": True, "n": False, "o": False,
    }  # fmt: skip
    assert all(row.costs for row in table.rows)
    (table,) = aggregate(record.model_copy(update={"phases": phase}) for record in mixed)
    assert table.machine is None
    assert not table.timed(table.rows[0])


def test_a_failed_seed_names_no_machine():
    lost = elsewhere(make_failed("m", 3))
    (table,) = aggregate([*plain(), *seeds("m", [13.0] * 2), lost])
    assert table.machines == (machine(plain()[0].environment),)


def test_the_rows_of_another_table_take_no_share_of_what_these_rest_on():
    """One teacher stands whole in each table, and so does each row's own training: no table makes another cheaper."""
    phases = (
        Phase(name="teacher training", kind="teacher", seconds=60.0, artifact="t"),
        Phase(name="student training", kind="training", seconds=10.0, artifact="p"),
    )
    other = {"signals": {"teacher": "cached"}}
    records = [*plain(phases=phases), *plain(phases=phases, recipe=other, digest="11111111")]
    first, second = aggregate(records)
    for table in (first, second):
        assert [phase.shared_by for phase in table.baseline.sample.phases] == [3, 3]
        assert table.family(table.baseline) == (table.baseline,)


def test_work_is_shared_by_the_rows_that_rest_on_it_and_no_others():
    """Two machines trained a teacher of the same inputs: each is divided by its own rows, without the withdrawn one."""

    def resting(record, seconds):
        teacher = Phase(name="teacher training", kind="teacher", seconds=seconds, artifact="t")
        return record.model_copy(update={"phases": (teacher,)})

    found = [resting(record, 60.0) for record in (*plain(), *seeds("m", [13.0] * 3), *seeds("w", [1.0] * 3))]
    found += [elsewhere(resting(record, 90.0)) for record in seeds("n", [14.0] * 3)]
    row, day = make_record("w").row, date(2026, 1, 1)
    gone = Review(dataset="synthetic", row=row, verdict="unreliable", by="M", date=day, note="No.")
    for reviews, sharing in (((), 9), ((gone,), 6)):
        (table,) = aggregate(found, reviews=reviews)
        by = {row.sample.method.name: {phase.shared_by for phase in row.sample.phases} for row in table.rows}
        assert (by["m"], by["n"]) == ({sharing}, {3})


def test_the_plain_student_is_one_that_may_be_placed():
    """Five seeds of another one, of which one has failed, are not what the rest is compared with."""
    more = plain((30.0,) * 4, digest="11111111", recipe={"seeds": 5})
    records = [*plain(), *more, make_failed("baseline", 5, role="baseline", digest="11111111", recipe={"seeds": 5})]
    (table,) = aggregate([*records, *seeds("m", [13.0] * 3)])
    assert table.baseline.sample.row == plain()[0].row
    assert [row.difference.mean for row in table.placed if row.difference] == [pytest.approx(2.0)]


def test_a_poor_plain_student_with_more_seeds_lowers_no_measure():
    more = plain((1.0,) * 5, digest="11111111", recipe={"seeds": 5})
    (table,) = aggregate([*plain(), *more, *seeds("m", [13.0] * 3)])
    assert table.baseline.sample.row == plain()[0].row


def test_a_table_knows_how_many_trainings_were_still_learning():
    """A run that gave several students counts once, the teacher's and those of rows that are not placed do not."""

    def still(record):
        return record.model_copy(update={"training": record.training.model_copy(update={"best_update": 310})})

    runs = [
        record.model_copy(update={"phases": (Phase(name="t", kind="training", seconds=1.0, artifact=str(seed)),)})
        for depth in (Depth(2, 2), Depth(3, 2))
        for seed, record in enumerate(map(still, seeds("m", [20.0] * 3, depth=depth)))
    ]
    others = [*seeds("teacher", [30.0] * 3, role="teacher"), *seeds("n", [9.0])]
    (table,) = aggregate([*plain(), *runs, *map(still, others)])
    assert table.still_learning == (3, 6)


def test_a_row_of_another_shape_than_the_plain_students_is_told():
    larger = seeds("larger", [13.0] * 3, depth=Depth(4, 2))
    (table,) = aggregate([*plain(), *seeds("m", [12.0] * 3), *larger])
    assert [row.sample.method.name for row in table.rows if table.reshaped(row)] == ["larger"]


def test_rows_that_are_not_placed_do_not_choose_the_machine():
    alone = [elsewhere(make_record(f"n{number}")) for number in range(5)]
    (table,) = aggregate([*plain(), *seeds("m", [13.0] * 3), *alone])
    assert table.machine.startswith("Example CPU")


def test_seeds_are_paired_by_number_not_by_order():
    records = [*plain((10.0, 20.0, 30.0)), *seeds("word_level", [11.0, 21.0, 31.0])]
    (table,) = aggregate(reversed(records))
    assert table.placed[0].difference.mean == pytest.approx(1.0)
    assert table.placed[0].difference.deviation == pytest.approx(0.0)


def test_rows_are_ordered_by_mean_bleu_whatever_their_role():
    records = [
        *seeds("teacher", [20.0] * 3, role="teacher", depth=Depth(4, 4)),
        *plain(),
        *seeds("low", [9.0] * 3),
        *seeds("high", [30.0] * 3),
    ]
    (table,) = aggregate(records)
    assert [row.sample.method.name for row in table.placed] == ["high", "teacher", "baseline", "low"]


def test_the_ranking_obeys_the_ruleset_it_is_given():
    one = seeds("m", [1.0], recipe={"seeds": 1})
    assert len(aggregate(one, Ruleset(seeds=1))[0].placed) == 1
    assert len(aggregate(one, Ruleset(seeds=2))[0].unplaced) == 1


def test_rows_with_other_signals_of_the_teacher_are_never_in_one_table():
    cached = {"signals": {"kind": "cached", "top_k": 32}}
    found = aggregate(plain() + plain(digest="11111111", recipe=cached))
    assert sorted(table.own for table in found) == [(), ("signals.kind = cached", "signals.top_k = 32")]


def test_each_data_set_and_recipe_has_its_own_table_and_baseline():
    changed = {"train_pairs": 500}
    records = [
        *plain((10.0, 10.0, 10.0)),
        *seeds("m", [11.0] * 3),
        *plain((20.0, 20.0, 20.0), digest="11111111", recipe=changed),
        *seeds("m", [25.0] * 3, digest="11111111", recipe=changed),
        *seeds("m", [40.0] * 3, dataset="another"),
    ]
    tables = aggregate(records)
    assert [(each.sample.dataset, each.own, len(each.rows)) for each in tables] == [
        ("another", (), 1),
        ("synthetic", (), 2),
        ("synthetic", ("train_pairs = 500",), 2),
    ]
    assert [each.placed[0].difference and each.placed[0].difference.mean for each in tables] == [None, 1.0, 5.0]


def test_a_preset_that_was_changed_says_so_without_another_table_beside_it():
    (table,) = aggregate(plain(recipe={"train_pairs": 500, "search": {**make_record().recipe["search"], "beam": 7}}))
    assert table.own == ("search.beam = 7", "train_pairs = 500")


def test_rows_of_an_earlier_version_of_the_code_say_so_without_another_table_beside_them():
    (table,) = aggregate(plain(engine={"student": ENGINE["student"] - 1, "dev": ENGINE["dev"]}))
    assert table.own == (f"engine.student = {ENGINE['student'] - 1}",)


def test_a_preset_that_is_not_known_is_compared_with_its_other_tables_only():
    changed = {"train_pairs": 500}
    (table,) = aggregate(plain(preset="older", recipe=changed))
    assert table.own == ()
    tables = aggregate(
        [
            *plain(preset="older"),
            *plain(preset="older", recipe=changed, digest="11111111"),
        ]
    )
    assert sorted(each.own for each in tables) == [("train_pairs = 0",), ("train_pairs = 500",)]


def test_the_number_of_seeds_asked_for_makes_no_table_of_its_own():
    assert len(aggregate(plain() + seeds("m", [1.0], recipe={"seeds": 1}))) == 1


def test_rows_of_one_method_name_the_settings_that_set_them_apart():
    records = plain() + seeds("m", [1.0] * 3)
    for record in seeds("m", [2.0] * 3, digest="22222222"):
        method = record.method.model_copy(update={"settings": {"alpha": 0.9, "divergence": "forward_kl"}})
        records.append(record.model_copy(update={"method": method}))
    (table,) = aggregate(records)
    assert [row.own for row in table.placed] == [(), ("alpha = 0.9",), ("alpha = 0.5",)]


def test_the_rules_text_states_what_is_enforced():
    assert any("at least 7" in sentence for sentence in Ruleset(seeds=7).text())
    assert any("highest dev BLEU win" in sentence for sentence in RULES.text())
    assert any(
        "highest validation chrF" in sentence for sentence in Ruleset(selection="validation", metric="chrF").text()
    )
    assert any("over 25 % more than its budget" in sentence for sentence in Ruleset(overrun=0.25).text())
    assert RULES.overrun == 0.1
    assert RULES.seeds == 3
    assert RULES.required_seeds(1) == 3
    assert RULES.required_seeds(5) == 5


def test_a_phase_is_shared_by_the_finished_rows_that_rest_on_its_artifact_in_the_same_way():
    """However many rows the run knew of that wrote each record."""

    def phases(kind, own):
        return (
            Phase(name="teacher: training", kind=kind, seconds=60.0, shared_by=9, artifact="t"),
            Phase(name="student: training", kind="training", seconds=10.0, shared_by=9, artifact=own),
        )

    records = [
        make_record("teacher", role="teacher", phases=phases("training", None)[:1]),
        make_record("word_level", phases=phases("teacher", "w")),
        make_record("tie_kd", phases=phases("teacher", "k")),
        make_record("aio_kd", depth=Depth(2, 2), phases=phases("teacher", "a")[1:]),
        make_record("aio_kd", depth=Depth(3, 3), phases=phases("teacher", "a")[1:]),
        make_failed("a2d"),
    ]
    (table,) = aggregate(records)
    means = {
        (row.sample.method.name, str(row.sample.delivery.depth)): row.costs[-1].seconds.mean
        for row in table.rows
        if row.costs
    }
    assert means[("teacher", str(records[0].delivery.depth))] == 60.0
    assert means[("word_level", "2-2")] == means[("tie_kd", "2-2")] == 60.0 / 2 + 10.0
    assert means[("aio_kd", "2-2")] == means[("aio_kd", "3-3")] == 5.0


@pytest.mark.parametrize(("text", "tables"), [("d", 1), ("e", 2)])
def test_rows_of_another_text_are_in_another_table(text, tables):
    records = [make_record("baseline", role="baseline"), make_record("word_level", data_sha256=text * 64)]
    assert len(aggregate(records)) == tables


def test_a_failed_row_is_in_the_table_of_its_data_set_whatever_its_test_set_is_called():
    there = {"primary": "test_2016", "hypotheses": make_hypotheses(sets=("test_2016",))}
    (table,) = aggregate([make_record("baseline", role="baseline", **there), make_failed(primary="test_2016")])
    assert [row.sample.status for row in table.rows] == ["ok", "failed"]


def test_seeds_of_different_engines_are_not_one_row():
    records = [make_record("word_level", seed, engine={"student": 1 + (seed == 3)}) for seed in (1, 2, 3)]
    (table,) = aggregate(records)
    assert "not run alike" in table.unplaced[0].unplaced[0]


def test_the_open_track_is_in_tables_of_its_own_after_the_official_ones():
    records = [
        *plain(),
        *seeds("m", [1.0] * 3),
        *plain(track="open", digest="11111111"),
        *seeds("m", [9.0] * 3, track="open", digest="11111111"),
    ]
    tables = aggregate(records)
    assert [(each.sample.track, len(each.placed), each.own) for each in tables] == [
        ("official", 2, ()),
        ("open", 2, ()),
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"tuning": {"trials": 6}},
        {"tuning": {"trials": 3, "seed": 2}},
        {"budget": {"kind": "wall-clock", "amount": 60.0}},
        {"budget": {"kind": "wall-clock", "amount": 30.0}},
    ],
)
def test_other_trials_or_budgets_make_other_tables(changed):
    recipes = [{"tuning": {"trials": 3, "seed": 1}, "budget": {"kind": "device-hours", "amount": 60.0}}]
    recipes.append(recipes[0] | changed)
    records = [make_record(recipe=recipe, digest=digest * 8) for recipe, digest in zip(recipes, "12", strict=True)]
    assert len(aggregate(records)) == 2


def test_rows_with_a_budget_of_time_are_compared_on_one_machine_only():
    records = [
        record
        for name, place in (("a", "one machine"), ("b", "another one"))
        for record in seeds(name, [1.0] * 3, recipe={"budget": {"kind": "wall-clock", "amount": 60.0, "place": place}})
    ]
    assert sorted(table.own for table in aggregate(records)) == [("machine = another one",), ("machine = one machine",)]


def test_a_table_names_its_trials_and_its_students_budget():
    budget = {"kind": "wall-clock", "limit": 60.0, "spent": 61.0}
    records = tuned("m", [1.0] * 3, make_sweep(method="m"), budget=budget)
    recipe = {"tuning": records[0].recipe["tuning"]}
    (table,) = aggregate([*records, *seeds("teacher", [50.0] * 3, role="teacher", depth=Depth(4, 4), recipe=recipe)])
    assert (table.trials, table.sample.role) == (3, "teacher")
    assert (table.budget.kind, table.budget.limit) == ("wall-clock", 60.0)
    assert len(table.placed) == 2


def test_where_the_trials_look_sets_tuned_tables_apart_and_no_other():
    other = {"training": {"learning_rate": {"low": 0.002, "high": 0.01, "log": True}}}
    sweep = make_sweep(method="m")
    space = tuned("m", [1.0] * 3, sweep)[0].recipe["tuning"] | {"space": other}
    records = [
        *seeds("m", [1.0] * 3),
        *tuned("m", [1.0] * 3, sweep, digest="11111111"),
        *tuned("m", [1.0] * 3, sweep, {"tuning": space}, digest="22222222"),
    ]
    found = {each.sample.row.rpartition(".")[2]: each.own for each in aggregate(records)}
    assert found["0badcafe"] == ()
    assert found["22222222"] == ("tuning.space.training.learning_rate.low = 0.002",)
    assert "tuning.space.training.learning_rate.low = 0.001" in found["11111111"]
    assert not [change for change in found["11111111"] if "learning_rate.high" in change or "trials" in change]


def test_the_trials_are_part_of_the_total_time_and_shared_by_all_that_came_out_of_them():
    sweep = make_sweep([18.0, 21.0], "aio_kd", seconds=90.0)
    untuned = seeds("aio_kd", [1.0] * 3, depth=Depth(2, 2))
    (plain_table,) = aggregate(untuned)
    records = [*tuned("aio_kd", [1.0] * 3, sweep), *tuned("aio_kd", [1.0] * 3, sweep, depth=Depth(3, 3))]
    (table,) = aggregate(records)
    for row in table.rows:
        assert row.costs[0] == plain_table.rows[0].costs[0]
        assert row.costs[-1].seconds.mean == pytest.approx(plain_table.rows[0].costs[-1].seconds.mean + 180.0 / 6)
