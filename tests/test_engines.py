"""The two engines translate alike: the same text, the same search, the same limits."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import micro
import pytest
import torch

from bench.config import ModelConfig, SearchConfig, TokenizerConfig
from bench.data.tokenizer import Tokenizer
from bench.measure.engines import CTranslate2Engine, EngineConfig, load_engine
from bench.nmt.batch import Batch
from bench.nmt.export import export_ctranslate2, save_model
from bench.nmt.model import Transformer
from bench.nmt.search import translate_ids

WORDS = ["ka", "lo", "mi", "ne", "su", "ta", "rû", "ge", "hi"]
SEARCH = SearchConfig(beam=4, max_ratio=1.5, max_extra=8)


def sentences(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 7))) for _ in range(count)]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A model that has learnt to turn sentences round, mostly, in the forms that the engines load."""
    folder = tmp_path_factory.mktemp("student")
    train = sentences(1200, 1)
    Tokenizer.train(train, TokenizerConfig(vocabulary=40), folder / "tokenizer.model")
    tokenizer = Tokenizer.load(folder / "tokenizer.model")
    pairs = list(zip(tokenizer.encode(train), tokenizer.encode([" ".join(line.split()[::-1]) for line in train])))
    torch.manual_seed(1)
    shape = ModelConfig(
        width=32, ffn=64, heads=2, encoder_layers=1, decoder_layers=1, norm="pre", dropout=0.0, max_positions=64
    )
    model = Transformer(shape, tokenizer.size)
    optimiser, draw = torch.optim.Adam(model.parameters(), 5e-3), random.Random(2)
    for _ in range(200):
        batch = Batch.of(*map(list, zip(*draw.sample(pairs, 32))))
        logits = model.project(batch.pack(model.decode(batch.prefix, model.encode(batch.source)).states))
        loss = torch.nn.functional.cross_entropy(logits, batch.labels, label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    save_model(model, folder / "pytorch")
    return SimpleNamespace(model=model, tokenizer=tokenizer, folder=folder)


def config(student: SimpleNamespace, engine: str, precision: str = "float32", **search: float) -> EngineConfig:
    folder = student.folder / engine
    if engine == "ctranslate2":
        pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
        folder = student.folder / f"ctranslate2-{precision}"
        if not folder.exists():
            export_ctranslate2(student.model, student.tokenizer.pieces, folder, precision)
    return EngineConfig(
        engine=engine,
        precision=precision,
        model=folder,
        tokenizer=student.folder / "tokenizer.model",
        search=SEARCH.model_copy(update=search),
        max_positions=64,
        device="cpu",
    )


LINES = sentences(200, 3)


@pytest.mark.parametrize("beam", [1, 4])
def test_the_engines_agree(student: SimpleNamespace, beam: int):
    ours = load_engine(config(student, "pytorch")).translate(LINES, beam=beam, batch_tokens=128)
    theirs = load_engine(config(student, "ctranslate2")).translate(LINES, beam=beam, batch_tokens=128)
    equal = sum(a == b for a, b in zip(ours.lines, theirs.lines, strict=True))
    assert equal >= 199
    assert len(set(ours.lines)) > 150, "a model that says the same of everything would prove nothing"
    assert ours.source_pieces == theirs.source_pieces
    assert abs(ours.target_pieces - theirs.target_pieces) <= 20


@pytest.mark.parametrize("engine", ["pytorch", "ctranslate2"])
def test_batches_do_not_change_a_translation(student: SimpleNamespace, engine: str):
    loaded = load_engine(config(student, engine))
    large, small, single = (loaded.translate(LINES[:40], beam=4, batch_tokens=size) for size in (2000, 40, 0))
    assert large == small == single


def test_our_engine_is_the_decoder_that_scores_come_from(student: SimpleNamespace):
    found = load_engine(config(student, "pytorch")).translate(LINES, beam=4, batch_tokens=128)
    expected = translate_ids(student.model, student.tokenizer.encode(LINES), SEARCH, device="cpu")
    assert list(found.lines) == student.tokenizer.decode([each[0].ids for each in expected])
    assert found.target_pieces == sum(len(each[0].ids) + 1 for each in expected)


@pytest.mark.parametrize(("engine", "precision"), [("ctranslate2", "int8"), ("pytorch", "bfloat16")])
def test_lower_precision_translates_nearly_alike(student: SimpleNamespace, engine: str, precision: str):
    ours = load_engine(config(student, "pytorch")).translate(LINES, beam=4, batch_tokens=128)
    found = load_engine(config(student, engine, precision)).translate(LINES, beam=4, batch_tokens=128)
    assert 100 < sum(a == b for a, b in zip(ours.lines, found.lines, strict=True)) <= 200


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_an_export_leaves_the_model_as_it_was(student: SimpleNamespace, tmp_path: Path, precision: str):
    pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
    before = {name: value.clone() for name, value in student.model.state_dict().items()}
    export_ctranslate2(student.model, student.tokenizer.pieces, tmp_path / "out", precision)
    assert all(torch.equal(value, before[name]) for name, value in student.model.state_dict().items())


def test_int8_is_small_on_disk_too(student: SimpleNamespace):
    sizes = [
        (config(student, "ctranslate2", precision).model / "model.bin").stat().st_size
        for precision in ("float32", "int8")
    ]
    assert sizes[1] < 0.7 * sizes[0]


@pytest.mark.parametrize("engine", ["pytorch", "ctranslate2"])
def test_every_sentence_keeps_its_own_limit(student: SimpleNamespace, engine: str):
    """Short and long ones share a batch; half as many pieces as the source has are allowed."""
    loaded = load_engine(config(student, engine, max_ratio=0.5, max_extra=1))
    for beam in (1, 4):
        sources = student.tokenizer.encode(LINES)
        outputs = loaded._search(sources[:60], beam, alone=False)
        for source, ids in zip(sources, outputs):
            assert len(ids) + 1 <= int(0.5 * len(source)) + 1


def test_greedy_outputs_agree_at_the_limit(student: SimpleNamespace):
    ours, theirs = (
        load_engine(config(student, engine, max_ratio=0.5, max_extra=1)).translate(LINES, beam=1, batch_tokens=128)
        for engine in ("pytorch", "ctranslate2")
    )
    assert ours == theirs


def test_a_hypothesis_that_ended_within_the_limit_goes_before_one_that_was_cut(student: SimpleNamespace):
    engine = load_engine(config(student, "ctranslate2"))
    pieces = student.tokenizer.pieces
    end, a, b = pieces[3], pieces[5], pieces[6]
    chosen = engine._chosen if isinstance(engine, CTranslate2Engine) else None
    assert chosen([[a, b, end], [b, end]], 3) == [5, 6]
    assert chosen([[a, b, a], [b, end]], 3) == [6]
    assert chosen([[a, b, a, end], [b, end]], 3) == [6]
    assert chosen([[a, b, a, b], [b, a, b, end]], 3) == [5, 6]


def test_an_engine_needs_no_other_engines_library(student: SimpleNamespace):
    """Its memory is its own: PyTorch would be most of what CTranslate2's process holds."""
    pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
    code = "import sys, ctranslate2, bench.measure.speed; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(micro.ROOT)}).returncode == 0
    )
