"""The hot paths: training steps, losses over the vocabulary, the teacher's pass, search, batching, scoring, site."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from factories import seeds, store
from torch import Tensor

import methods
from bench.config import ModelConfig, SearchConfig, TrainConfig
from bench.data.batches import EncodedCorpus, token_batches
from bench.losses import divergence
from bench.measure.quality import score
from bench.measure.statistics import sentence_statistics
from bench.method import Runner, total
from bench.nmt.batch import EOS
from bench.nmt.linear import linear
from bench.nmt.search import translate_ids
from bench.positions import Positions, Source, Term, over_positions
from bench.records import read_records
from bench.registry import load_methods
from bench.train.steps import Steps
from bench.train.trainer import new_network
from leaderboard.site import build
from leaderboard.table_tests import compare_rows

pytestmark = pytest.mark.benchmark(disable_gc=True)

VOCABULARY = 500
STUDENT = ModelConfig(width=64, ffn=128, heads=4, encoder_layers=2, decoder_layers=2, norm="pre", dropout=0.1)
TEACHER = STUDENT.model_copy(update={"encoder_layers": 4, "decoder_layers": 4, "dropout": 0.0})
RECIPE = TrainConfig(
    target_tokens=10_000, batch_tokens=512, learning_rate=1e-4, warmup_updates=1, label_smoothing=0.1, precision="fp32"
)
DISTILLING = sorted(path.stem for path in Path(methods.__file__).parent.glob("[a-z]*.py") if path.stem != "baseline")
SENTENCES = 200


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    """Pairs of 8 to 30 pieces."""
    draw, folder = random.Random(1), tmp_path_factory.mktemp("corpus")

    def line() -> list[int]:
        return [*draw.choices(range(EOS + 1, VOCABULARY), k=draw.randint(7, 29)), EOS]

    EncodedCorpus.write(folder, [(line(), line()) for _ in range(200)], VOCABULARY)
    return EncodedCorpus.open(folder)


@pytest.fixture(scope="module")
def rows(corpus: EncodedCorpus) -> Any:
    """The pairs of one batch."""
    return token_batches(corpus.lengths, RECIPE.batch_tokens, seed=1, epoch=0)[0]


def update(name: str, corpus: EncodedCorpus, rows: Any, student: ModelConfig = STUDENT) -> Callable[[], int]:
    """An update of a method; always the first one, for what a method draws, such as depths, depends on the number."""
    method, device = load_methods().get(name)({"min_depth": 1} if name == "aio_kd" else {}), torch.device("cpu")
    steps = Steps(method, RECIPE, student, TEACHER, vocabulary=VOCABULARY, text=corpus, device=device)
    return partial(steps.update, [rows])


@pytest.mark.parametrize("shape", [STUDENT, TEACHER], ids=["student", "teacher"])
def test_training_step(shape: ModelConfig, measured: Any, corpus: EncodedCorpus, rows: Any) -> None:
    """Plain training."""
    assert measured(update("baseline", corpus, rows, shape)) == corpus.lengths[rows, 1].sum()


@pytest.mark.parametrize("name", DISTILLING)
def test_step_against_plain(name: str, measured: Any, corpus: EncodedCorpus, rows: Any) -> None:
    """In units of the plain student's step."""
    plain = update("baseline", corpus, rows)
    assert measured(update(name, corpus, rows), against=plain) == corpus.lengths[rows, 1].sum()


@pytest.mark.parametrize("distilled", [False, True], ids=["plain", "word_level"])
def test_vocabulary_loss(distilled: bool, measured: Any) -> None:
    """From the states of 512 positions, the student's and the teacher's, to gradients, over a vocabulary of 8,000."""
    draw = torch.Generator().manual_seed(1)
    states, others = (torch.randn(512, STUDENT.width, generator=draw) for _ in range(2))
    matrix, frozen = (torch.randn(8000, STUDENT.width, generator=draw) for _ in range(2))
    positions = Positions(torch.randint(8000, (512,), generator=draw), RECIPE.label_smoothing)
    student = Source(states.requires_grad_(), matrix.requires_grad_(), linear, nullcontext, 8000)
    teacher = Source(others, frozen, linear, nullcontext, 8000)

    def terms(chunk: Positions, student: Tensor, *teacher: Tensor) -> dict[str, Term]:
        kd = {"kd": Term(divergence(*teacher, student))} if teacher else {}
        return {"nll": Term(chunk.cross_entropy(student))} | kd

    def loss() -> float:
        states.grad = matrix.grad = None
        value = total(over_positions(terms, positions, [student, teacher] if distilled else [student]))
        value.backward()
        return value.item()

    assert measured(loss) > 0


def test_teacher_pass(measured: Any, corpus: EncodedCorpus, rows: Any) -> None:
    teacher, batch = Runner(new_network(TEACHER, VOCABULARY, seed=2), frozen=True), corpus.batch(rows)
    assert measured(teacher.forward, batch).logits.shape == (batch.tokens, VOCABULARY)


@pytest.mark.parametrize("beam", [1, 5], ids=["greedy", "beam 5"])
@pytest.mark.parametrize("batch", [32, 1], ids=["batch", "one sentence"])
def test_search(beam: int, batch: int, measured: Any, corpus: EncodedCorpus) -> None:
    model, config = new_network(STUDENT, VOCABULARY, seed=1).eval(), SearchConfig(beam=beam, max_ratio=1.0, max_extra=5)
    sources = corpus.sources()[:batch]
    assert len(measured(translate_ids, model, sources, config, device="cpu", alone=batch == 1)) == batch


def test_batching(measured: Any) -> None:
    lengths = np.random.default_rng(1).integers(5, 60, (100_000, 2), dtype=np.int32)
    batches = measured(token_batches, lengths, 4096, seed=1, epoch=0)
    assert sum(map(len, batches)) == len(lengths)


@pytest.fixture(scope="module")
def lines() -> tuple[list[str], list[str]]:
    """Hypotheses, and references that differ in some words."""
    draw = random.Random(1)
    words = ["".join(draw.choices("abdeiklmnorstu", k=draw.randint(2, 9))) for _ in range(2000)]
    references = [[draw.choice(words) for _ in range(draw.randint(8, 25))] for _ in range(SENTENCES)]
    hypotheses = [[word if draw.random() < 0.7 else draw.choice(words) for word in line] for line in references]
    return [" ".join(line) for line in hypotheses], [" ".join(line) for line in references]


def test_scoring(measured: Any, lines: tuple[list[str], list[str]]) -> None:
    assert 20 < measured(score, *lines).bleu < 80


def test_sentence_statistics(measured: Any, lines: tuple[list[str], list[str]]) -> None:
    assert len(measured(sentence_statistics, *lines)) == SENTENCES


def test_differences(measured: Any, lines: tuple[list[str], list[str]]) -> None:
    """A table of three rows of three seeds each."""
    statistics = sentence_statistics(*lines)
    draw = np.random.default_rng(1)
    rows = [[draw.permuted(statistics, axis=0) for _ in range(3)] for _ in range(3)]
    assert len(measured(compare_rows, rows, "abc", "bleu").means) == 3


def test_site(measured: Any, tmp_path: Path) -> None:
    """Some 100 records: 16 rows on each of two data sets, three seeds each."""
    records = []
    for number in range(16):
        name = "baseline" if number == 0 else f"method_{number}"
        for dataset in ("synthetic", "multi30k-en-de"):
            more = {"dataset": dataset, "digest": f"{number:08x}", "role": "method" if number else "baseline"}
            records += seeds(name, [20.0 + number / 4, 20.5 + number / 5, 21.0], **more)
    reading = read_records([store(tmp_path / "records", *records)])
    assert len(reading.records) == 96
    assert measured(build, reading.records, tmp_path / "site").is_file()
