"""How to run a row again: the steps are exact, and a hostile command never reaches a reader's shell."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from factories import make_record, make_sweep

from bench.cli import group
from bench.options import request_of
from bench.recorder import command
from bench.request import Prepared, Request, resolve
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
    "text",
    [
        "rm -rf ~",
        f"{RUN}\nrm -rf ~",
        f"{RUN} --preset\u2028x",
        "python -m bench publish",
        "python -m bench run 'un",
        "",
    ],
)
def test_a_command_of_another_program_is_not_shown(text):
    found = again(make_record(command=text), Catalog())
    assert (found.steps, found.winner) == ((), None)
    assert found.notes[-1] == "The record’s command is not shown: it is no call of this program."


@pytest.mark.parametrize(
    "text",
    [
        *("; rm -rf ~", "&& rm x", "$(rm x)", "`rm x`", "| sh", "> /etc/x", "-- x", "--", "word_level", "-h"),
        *("--cluster ray://evil:10001", "--cluster=ray://evil", "--storage mysql://evil/x", "--storage=sqlite:///x"),
        *("--methods-dir evil", "--methods-dir=/tmp/evil", "--runs '~/.ssh'", "--runs=x", "--data-dir /etc"),
        *("--track-with comet", "--no-speed --runs x", "--silence 1"),
    ],
)
def test_what_the_program_never_writes_is_not_shown(text):
    found = again(make_record(command=f"{RUN} {text}", sweep=make_sweep()), Catalog())
    assert (found.steps, found.winner) == ((), None)
    assert found.notes[-1] == (
        "The record’s command is not shown: it has more in it than the program writes into a record."
    )


@pytest.mark.parametrize(
    "option",
    [
        *(
            "--metric comet:/tmp/evil.ckpt",
            "--metric comet:../x",
            "--metric 'comet:~/x'",
            "--metric comet:",
            "--metric",
        ),
        *("--dataset /etc/passwd", "--dataset ../x", "--dataset '~x'", "--dataset=-x", "--methods evil.py,/tmp/x"),
        *(
            "--workers 9999",
            "--workers 0",
            "--preset ''",
            "--seeds -1",
            "--seeds 1e9",
            "--seeds ٣",
            "--device ray",
            "--track closed",
            "--budget '$(x)'",
        ),
        *("--set x", "--set =1", "--set --runs=x", "--set 'a b=1'", "--set 'a.b=\x1b[31m'", "--langs de"),
    ],
)
def test_a_value_that_the_program_never_writes_is_not_shown(option):
    found = again(make_record(command=f"{RUN} {option}"), Catalog())
    assert (found.steps, found.winner) == ((), None)
    assert "The record’s command is not shown: it" in found.notes[-1]


@pytest.mark.parametrize("form", ["--set a.b=$HOME", "--set='a.b=$HOME'", "--set 'a.b=`rm x`; rm'"])
def test_a_value_that_a_shell_would_read_is_quoted(form):
    *_, shown = again(make_record(command=f"{RUN} {form}"), Catalog()).steps
    assert shlex.split(shown)[: len(RUN.split())] == RUN.split()
    outside_quotes = "".join(shown.split("'")[::2])
    assert not set(outside_quotes) & set(";&|<>$`")


def test_a_checkpoint_is_left_out_and_that_is_said():
    found = again(make_record(command=f"{RUN} --metric legacy-bleu --metric comet:wmt22.ckpt --seeds 3"), Catalog())
    assert found.steps[-1] == f"{RUN} --metric legacy-bleu --seeds 3"
    assert "by a checkpoint, which is left out" in found.notes[-1]


@pytest.mark.parametrize("values", [{"x --runs": 1}, {"": 1}, {"training.seed": "a\nb"}])
def test_a_search_with_foreign_values_has_no_command(values):
    sweep = make_sweep([18.0])
    odd = sweep.model_copy(update={"trials": (sweep.trials[0].model_copy(update={"values": values}),)})
    found = again(make_record(command=f"{RUN} --trials 3", sweep=odd), Catalog())
    assert (found.steps, found.winner) == ((), None)


@pytest.mark.parametrize("form", ["{} {}", "{}={}"])
def test_the_winner_is_trained_without_the_search(form):
    sweep = make_sweep()
    search = {"--trials": 3, "--track": "open", "--sampler": "tpe", "--pruner": "median"}
    words = " ".join(form.format(*option) for option in search.items())
    searched = f"{RUN} {words} --seeds 3 --set word_level.data=seqkd"
    assert again(make_record(command=searched, sweep=sweep, track="open"), Catalog()).winner == (
        f"{RUN} --seeds 3 --set word_level.data=seqkd --trials 1 "
        "--set training.learning_rate=0.004 --set word_level.alpha=0.51"
    )


def prepared(line: str, runs: Path) -> Prepared:
    """What the program would do if ``line`` were entered."""
    words = [*shlex.split(line)[4:], "--runs", str(runs)]
    context = group.commands["run"].make_context("run", words)
    return resolve(request_of(**context.params))


def test_the_command_of_a_record_makes_its_row_again(tmp_path):
    request = Request(
        methods=("all",), dataset=str(tmp_path / "my.corpus"), languages=("aa", "bb"), seeds=2, workers=3,
        runs=tmp_path,
        settings={"word_level.alpha": 0.5, "tie_kd.top_k": 5, "train_pairs": 9, "training.betas": [0.5, 0.6],
                  "word_level.divergence": "reverse kl", "a2d.x": True},
    )  # fmt: skip
    assert command(request, "cuda:1", "word_level") == (
        "python -m bench run --methods word_level --dataset my.corpus --langs aa,bb --preset quick --device cuda "
        "--seeds 2 --workers 3 --set word_level.alpha=0.5 --set train_pairs=9 --set 'training.betas=[0.5, 0.6]' "
        "--set 'word_level.divergence=reverse kl'"
    )
    assert "--methods baseline" in command(request, "cpu", "teacher")
    assert "--set a2d.x=true" in command(request, "cpu", "a2d")


@pytest.mark.parametrize(
    "line",
    [
        f"{RUN},a2d --seeds 2 --set word_level.divergence=js --set training.betas=[0.8,0.9] --set a2d.mask_pads=true",
        f"{RUN},aio_kd --trials 3 --budget wall-clock:1.5",
        f"{RUN} --trials 3 --track open --sampler gp --pruner halving --budget tokens:5000 --teacher-signals cached",
    ],
)
def test_a_records_command_plans_its_row(tmp_path, line):
    made = prepared(line, tmp_path)
    for row in made.plan.rows:
        shown = command(made.request, "cpu", row.method)
        assert again(make_record(command=shown), Catalog()).steps[-1] == shown
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
