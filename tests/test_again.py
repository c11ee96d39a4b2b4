"""How to run a row again: the steps are exact, and a hostile command never reaches a reader's shell."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from factories import make_record, make_sweep

from bench.cli import group
from bench.options import request_of
from bench.recorder import command
from bench.request import Prepared, resolve
from leaderboard.again import again
from leaderboard.catalog import Catalog, Dataset

COMMIT = make_record().environment.git_commit
FETCHED = Catalog(datasets={"synthetic": Dataset("", "", "", "", True)})
RUN = "python -m bench run --methods word_level"


def with_commit(commit: str | None):
    return make_record().environment.model_copy(update={"git_commit": commit})


def test_the_steps_begin_with_the_commit_and_the_data():
    found = again(make_record(command=f"{RUN} --set 'word_level.divergence=reverse kl'"), FETCHED)
    assert found.steps == (
        f"git checkout {COMMIT}",
        "pip install -c constraints.txt .",
        "python -m bench data fetch synthetic",
        f"{RUN} --set 'word_level.divergence=reverse kl'",
    )
    assert (found.winner, found.notes) == (None, ())


@pytest.mark.parametrize(
    ("commit", "first", "note"),
    [
        (f"{COMMIT}-dirty", f"git checkout {COMMIT}", "had been changed"),
        (None, "pip install -c constraints.txt .", "from no commit that is known"),
        ("; rm -rf ~", "pip install -c constraints.txt .", "from no commit that is known"),
    ],
)
def test_code_without_a_clean_commit_is_said(commit, first, note):
    found = again(make_record(environment=with_commit(commit)), Catalog())
    assert found.steps[0] == first
    assert note in " ".join(found.notes)


def test_what_is_not_with_the_program_is_said():
    known = Catalog(datasets={"other": FETCHED.datasets["synthetic"]}, methods={"other": None})
    assert [note.partition(":")[0] for note in again(make_record(), known).notes] == [
        "The data set is the user’s own",
        "The method does not come with this program",
    ]


@pytest.mark.parametrize(
    "text", ["rm -rf ~", f"{RUN}\nrm -rf ~", "python -m bench publish", "python -m bench run 'unclosed", ""]
)
def test_a_command_of_another_program_is_not_shown(text):
    found = again(make_record(command=text), Catalog())
    assert (found.steps, found.winner) == ((), None)
    assert "no call of this program" in " ".join(found.notes)


@pytest.mark.parametrize("text", ["; rm -rf ~", "&& rm x", "$(rm x)", "`rm x`", "| sh", "> /etc/x", "--set a.b=$HOME"])
def test_nothing_in_a_command_but_this_program_can_run(text):
    *_, shown = again(make_record(command=f"{RUN} {text}"), Catalog()).steps
    assert shlex.split(shown)[: len(RUN.split())] == RUN.split()
    outside_quotes = "".join(shown.split("'")[::2])
    assert not set(outside_quotes) & set(";&|<>$`")


def test_the_winner_is_trained_without_the_search():
    sweep = make_sweep()
    searched = f"{RUN} --trials 3 --track open --sampler tpe --pruner median --seeds 3 --set word_level.data=seqkd"
    assert again(make_record(command=searched, sweep=sweep, track="open"), Catalog()).winner == (
        f"{RUN} --seeds 3 --set word_level.data=seqkd --trials 1 "
        "--set training.learning_rate=0.004 --set word_level.alpha=0.51"
    )


def prepared(line: str, runs: Path) -> Prepared:
    """What the program would do if ``line`` were entered."""
    words = [*shlex.split(line)[4:], "--runs", str(runs)]
    context = group.commands["run"].make_context("run", words)
    return resolve(request_of(**context.params))


@pytest.mark.parametrize(
    "line",
    [
        f"{RUN},a2d --seeds 2 --set word_level.divergence=js --set training.betas=[0.8,0.9] --set a2d.mask_pads=true",
        f"{RUN},aio_kd --trials 3 --budget wall-clock:1.5",
        f"{RUN} --trials 3 --track open --sampler gp --pruner halving --budget tokens:5000 --teacher-signals cached",
    ],
)
def test_a_records_command_plans_its_row(tmp_path, line):
    made = prepared(line.replace("", ""), tmp_path)
    for row in made.plan.rows:
        shown = command(made.request, "cpu", row.method)
        again_planned = prepared(shown, tmp_path).plan.rows
        assert (row.id, row.seed, row.scores.key) in [(each.id, each.seed, each.scores.key) for each in again_planned]


def test_the_winners_command_trains_what_the_search_chose(tmp_path):
    sweep = make_sweep([18.0, 21.0, 20.0])
    made = prepared(f"{RUN} --trials 3", tmp_path).plan.preset
    shown = again(make_record(command=f"{RUN} --trials 3", sweep=sweep), Catalog()).winner or ""
    settled = prepared(shown, tmp_path).plan
    assert settled.preset.training == made.at({"training.learning_rate": 0.004}).training
    (row,) = {row.id: row for row in settled.rows if row.role == "method"}.values()
    assert row.settings["alpha"] == 0.51
    assert row.sweep is None
