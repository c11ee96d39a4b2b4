"""The teacher's text: of the training sources alone, in their order, always the same, and chosen as it should be."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import micro
import pytest
import torch

from bench.config import TokenizerConfig, preset
from bench.data.batches import EncodedCorpus
from bench.data.datasets import get_dataset
from bench.data.tokenizer import Tokenizer
from bench.measure.quality import sentence_bleu
from bench.nmt.export import load_model
from bench.nmt.search import Hypothesis
from bench.phases import PhaseError, Place, carry_out
from bench.phases.decoding import _closest
from bench.phases.training import forget_others
from bench.plan import Planner
from bench.registry import load_methods
from bench.store import Artifact

LEARNT = {"teacher_training.target_tokens": 3000, "teacher_training.learning_rate": 1e-2}
"""Enough for a teacher that gives no empty translations."""
Ids = list[int]


class Texts:
    """The teacher's texts of the micro corpus, made in one store."""

    def __init__(self, prefix: Path, store: Path) -> None:
        self.prefix, self.place = str(prefix), Place(store, str(prefix), ("aa", "bb"))

    def artifacts(self, kind: str, **settings: Any) -> list[Artifact]:
        """The artifacts of a kind that sequence-level distillation with these settings needs."""
        identity = get_dataset(self.prefix, ("aa", "bb")).identity(None)
        planner = Planner("corpus", identity, preset("quick", micro.SETTINGS | LEARNT), load_methods(), "cpu")
        plan = planner.plan(["sequence_level"], {"sequence_level": settings}, [1])
        wanted = [task for task in plan.tasks if task.kind == kind]
        return [[carry_out(each, self.place) for each in task.upstream][-1] for task in wanted]

    def text(self, **settings: Any) -> list[tuple[Ids, Ids]]:
        """The pairs of the text of the last stage."""
        return pairs(self.artifacts("text", **settings)[-1].folder / "train")

    def split(self, name: str) -> list[tuple[Ids, Ids]]:
        return pairs(self.artifacts("corpus")[0].folder / name)


def test_a_trial_goes_on_from_a_checkpoint_of_its_own_values_only(tmp_path: Path):
    left = tmp_path / "scratch" / "state-000000001"
    point = {"training.learning_rate": 0.1 + 0.2, "a2d.mode": "row", "tie_kd.top_k": 5}

    def leave() -> None:
        left.mkdir(parents=True, exist_ok=True)

    leave()  # of a time when nobody said whose it was
    forget_others(tmp_path, point)
    assert not left.exists()
    leave()
    forget_others(tmp_path, point)
    assert left.exists()
    forget_others(tmp_path, point | {"tie_kd.top_k": 3})
    assert not left.exists()


def pairs(folder: Path) -> list[tuple[Ids, Ids]]:
    corpus = EncodedCorpus.open(folder)
    return [(source, corpus.batch([i]).target[0].tolist()) for i, source in enumerate(corpus.sources())]


def sources(text: list[tuple[Ids, Ids]]) -> list[Ids]:
    return [source for source, _ in text]


@pytest.fixture(scope="module")
def texts(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Texts:
    return Texts(corpus, tmp_path_factory.mktemp("texts"))


def test_the_teacher_translates_the_training_sources_in_order_and_nothing_else(texts: Texts) -> None:
    text, train = texts.text(beam=2), texts.split("train")
    assert sources(text) == sources(train)
    assert len(train) > 50
    assert [target for _, target in text] != [target for _, target in train]
    for held_out in ("dev", "test"):
        unseen = sources(texts.split(held_out))
        assert len(unseen) == 6
        assert [source for source in unseen if source in sources(text)] == []


def test_the_text_is_the_same_in_another_store(texts: Texts, corpus: Path, tmp_path: Path) -> None:
    assert Texts(corpus, tmp_path).text(beam=2) == texts.text(beam=2)


def test_all_hypotheses_follow_one_another_each_with_its_source(texts: Texts) -> None:
    text, train = texts.text(mode="n_best", n_best=3, beam=3), texts.split("train")
    assert sources(text) == [source for source, _ in train for _ in range(3)]
    for start in range(0, len(text), 3):
        assert len({tuple(target) for _, target in text[start : start + 3]}) == 3
    assert [target for _, target in text[::3]] == [target for _, target in texts.text(beam=3)]


def test_the_closest_of_one_is_the_best_of_a_beam_of_one(texts: Texts) -> None:
    best, closest = texts.artifacts("text", mode="interpolation", beam=1, interpolation_k=1)
    assert best.inputs["text"]["choose"] == "best"
    assert closest.inputs["text"]["choose"] == "closest"
    assert pairs(best.folder / "train") == pairs(closest.folder / "train")


def test_the_closest_is_the_hypothesis_with_the_highest_bleu(texts: Texts) -> None:
    tokenizer = Tokenizer.load(texts.artifacts("tokenizer")[0].folder / "tokenizer.model")
    hypotheses = texts.text(mode="n_best", n_best=3, beam=3)
    closest = texts.text(mode="interpolation", interpolation_k=3, beam=3)
    assert len(closest) == len(hypotheses) / 3
    for i, ((_, chosen), (_, reference)) in enumerate(zip(closest, texts.split("train"), strict=True)):
        group = [target for _, target in hypotheses[3 * i : 3 * i + 3]]
        *lines, said = tokenizer.decode([*group, reference])
        scores = [sentence_bleu(line, said) for line in lines]
        assert chosen == group[scores.index(max(scores))]
    assert closest != hypotheses[::3]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    Tokenizer.train(["ka lo mi ne su ta"] * 5, TokenizerConfig(vocabulary=24), path)
    return Tokenizer.load(path)


def ranked(tokenizer: Tokenizer, *lines: str) -> list[Hypothesis]:
    """An n-best list, the likeliest first."""
    ids = [tuple(line[:-1]) for line in tokenizer.encode(lines)]
    return [Hypothesis(each, -1.0 - i, -10.0 - i) for i, each in enumerate(ids)]


def test_a_reference_among_the_hypotheses_is_chosen(tokenizer: Tokenizer) -> None:
    reference, others = "ka lo mi ne su", ["ka lo mi ne", "ka lo mi ne su ta", "ta su ne mi lo", "ka lo mi su ne"]
    for place in range(5):
        hypotheses = ranked(tokenizer, *others[:place], reference, *others[place:])
        assert _closest(hypotheses, reference, tokenizer) is hypotheses[place]


def test_of_equally_close_hypotheses_the_likelier_is_chosen(tokenizer: Tokenizer) -> None:
    reference, equals = "ka lo mi ne", ("ka lo su ta", "ta su mi ne")
    assert sentence_bleu(equals[0], reference) == sentence_bleu(equals[1], reference) > 0
    for lines in (equals, equals[::-1]):
        hypotheses = ranked(tokenizer, "su su su su", *lines)
        assert hypotheses[0].score > hypotheses[1].score
        assert _closest(hypotheses, reference, tokenizer) is hypotheses[1]


def test_what_a_killed_attempt_took_is_in_the_ledger(corpus: Path, tmp_path: Path) -> None:
    made = Texts(corpus, tmp_path)
    (planned,) = made.artifacts("tokenizer")
    shutil.rmtree(planned.folder)
    left = tmp_path / "tokenizer" / f".{planned.key}.seconds"
    left.write_text("7.5\n")
    details = made.artifacts("tokenizer")[0].details
    assert details["seconds"]["interrupted"] == 7.5
    assert sum(details["seconds"].values()) == pytest.approx(details["wall"], rel=0.02, abs=0.2)
    assert details["wall"] > 7.5
    assert not left.exists()


def test_a_student_starts_like_the_other_methods_and_not_like_its_teacher(corpus: Path, tmp_path: Path) -> None:
    still = {f"{part}.learning_rate": 1e-30 for part in ("training", "teacher_training")}
    identity = get_dataset(str(corpus), ("aa", "bb")).identity(None)
    plan = Planner("corpus", identity, preset("quick", micro.SETTINGS | still), load_methods(), "cpu").plan(
        ["word_level"], {}, [1]
    )
    place = Place(tmp_path, str(corpus), ("aa", "bb"))
    made = {
        task.label: carry_out(task, place)
        for task in plan.tasks
        if task.kind in ("tokenizer", "corpus", "teacher", "student")
    }
    teacher, plain, student = (
        load_model(made[f"{name}, seed 1"].folder).state_dict() for name in ("teacher", "baseline", "word_level")
    )
    drawn = [name for name, weights in student.items() if weights.std() > 0.01]
    assert drawn
    assert set(drawn) <= set(teacher)
    assert not any(torch.allclose(student[name], teacher[name]) for name in drawn)
    assert all(torch.allclose(student[name], plain[name], atol=1e-20) for name in student)


def test_a_trial_that_ranks_more_tokens_than_the_signals_have_fails(corpus: Path, tmp_path: Path) -> None:
    few = {"signals.kind": "cached", "signals.top_k": 4}
    identity = get_dataset(str(corpus), ("aa", "bb")).identity(None)
    planner = Planner("corpus", identity, preset("quick", micro.SETTINGS | few), load_methods(), "cpu")
    plan, place = planner.plan(["tie_kd"], {"tie_kd": {"top_k": 4}}, [1]), Place(tmp_path, str(corpus), ("aa", "bb"))
    (student,) = [task for task in plan.tasks if task.label == "tie_kd, seed 1"]
    for task in student.upstream:
        if task is not student:
            carry_out(task, place)
    more = replace(student, inputs=student.inputs | {"settings": student.inputs["settings"] | {"top_k": 5}})
    with pytest.raises(PhaseError, match="ranks 5 of the teacher's tokens, and the signals have 4"):
        carry_out(more, place)
