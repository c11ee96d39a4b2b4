"""Saving, loading and exporting a model: what comes back, what is refused, what a crash leaves behind."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import bench.nmt.export
from bench.config import Depth, ModelConfig, SearchConfig
from bench.errors import UsageError
from bench.nmt.batch import BOS, EOS, PAD, UNK, Batch
from bench.nmt.export import export_ctranslate2, load_model, save_model
from bench.nmt.model import Transformer
from bench.nmt.search import translate_ids

BATCH = Batch.of([[5, 6, 7, EOS], [8, EOS]], [[9, EOS], [10, 11, 12, EOS]])
PIECES = ["<pad>", "<unk>", "<s>", "</s>", *(f"▁w{i}" for i in range(4, 24))]


def random_model(seed: int = 0, **shape: object) -> Transformer:
    torch.manual_seed(seed)
    settings = {"width": 16, "ffn": 24, "heads": 2, "encoder_layers": 2, "decoder_layers": 1, "max_positions": 40}
    return Transformer(ModelConfig.model_validate(settings | shape), len(PIECES)).eval()


def all_logits(model: Transformer) -> torch.Tensor:
    with torch.no_grad():
        return model.project(model.decode(BATCH.prefix, model.encode(BATCH.source)).states)


@pytest.mark.parametrize("tie", ["all", "decoder", "none"])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_a_saved_model_comes_back_the_same(tmp_path: Path, tie: str, positions: str) -> None:
    model = random_model(tie=tie, positions=positions, norm="pre")
    save_model(model, tmp_path / "new" / "folder")
    state = torch.get_rng_state()
    loaded = load_model(tmp_path / "new" / "folder")
    assert torch.equal(torch.get_rng_state(), state), "loading must not disturb the random numbers of a run"
    assert loaded.config == model.config
    assert loaded.vocabulary == model.vocabulary
    assert not loaded.training
    assert torch.equal(all_logits(loaded), all_logits(model))
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["model.json", "model.safetensors"]


def test_a_truncated_model_is_saved_without_the_other_layers(tmp_path: Path) -> None:
    model = random_model(decoder_layers=3)
    save_model(model, tmp_path / "whole")
    save_model(model.truncated(Depth(1, 1)), tmp_path / "part")
    assert load_model(tmp_path / "part").config.depth == Depth(1, 1)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("part", "whole")]
    assert sizes[0] < 0.7 * sizes[1]


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no model: .*model\.json is missing"):
        load_model(tmp_path)
    save_model(random_model(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"model\.safetensors is missing"):
        load_model(tmp_path)


@pytest.mark.parametrize("damage", [lambda raw: raw[:-100], lambda raw: b"", lambda raw: b"\xff" * 40 + raw[40:]])
def test_damaged_weights_are_refused(tmp_path: Path, damage: object) -> None:
    save_model(random_model(), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(UsageError, match=r"model\.safetensors is damaged"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": 0}, "vocabulary: Input should be greater than or equal to 1, got 0"),
        ({"surprise": 1}, "surprise"),
        ({"config": {"width": 16}}, "config.ffn: Field required"),
    ],
)
def test_a_bad_description_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    save_model(random_model(), tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match="is no model description") as caught:
        load_model(tmp_path)
    assert message in str(caught.value)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_model(random_model(), tmp_path / "a")
    save_model(random_model(ffn=32), tmp_path / "b")
    (tmp_path / "a" / "model.json").write_bytes((tmp_path / "b" / "model.json").read_bytes())
    with pytest.raises(UsageError, match=r"does not fit model\.json"):
        load_model(tmp_path / "a")


def test_a_crash_while_saving_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(1)
    save_model(model, tmp_path)

    def half(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(bench.nmt.export, "save_file", half)
    with pytest.raises(OSError, match="disk full"):
        save_model(random_model(2), tmp_path)
    assert torch.equal(all_logits(load_model(tmp_path)), all_logits(model))
    assert len(list(tmp_path.iterdir())) == 2


def test_ctranslate2_is_asked_for_when_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("ctranslate2")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(UsageError, match="pip install ctranslate2"):
        export_ctranslate2(random_model(), PIECES, tmp_path / "out")


def test_ctranslate2_refuses_what_does_not_fit(tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
    with pytest.raises(UsageError, match="vocabulary of 24, but 23 pieces"):
        export_ctranslate2(random_model(), PIECES[:-1], tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="no empty folder"):
        export_ctranslate2(random_model(), PIECES, tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("tie", ["all", "decoder", "none"])
@pytest.mark.parametrize(
    "shape",
    [
        {"norm": "post", "positions": "sinusoidal", "activation": "relu"},
        {"norm": "pre", "positions": "learned", "activation": "gelu"},
    ],
    ids=["post", "pre"],
)
def test_ctranslate2_translates_like_the_model(tmp_path: Path, tie: str, shape: dict[str, str]) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
    model = random_model(3, tie=tie, **shape)
    with torch.no_grad():
        for layer in (*model.encoder, *model.decoder):
            for weight in layer.parameters():
                weight.mul_(3)
    export_ctranslate2(model, PIECES, tmp_path / "out")
    translator = ctranslate2.Translator(str(tmp_path / "out"), inter_threads=1, intra_threads=1)
    sources = [[5, 6, 7, EOS], [8, EOS], [23, 4, 4, 17, 9, 11, EOS], [12, 20, EOS]]
    targets = [[9, EOS], [10, 11, 4, 23, 9, EOS], [EOS], [20, 12, 8, EOS]]

    def pieces(ids: Sequence[int]) -> list[str]:
        return [PIECES[i] for i in ids if i != EOS]

    texts = [pieces(source) for source in sources]
    ours = translate_ids(model, sources, SearchConfig(beam=1, max_ratio=0.1, max_extra=12), device="cpu")
    theirs = translator.translate_batch(texts, beam_size=1, max_decoding_length=11, min_decoding_length=0)
    assert [result.hypotheses[0] for result in theirs] == [pieces(found.ids) for (found,) in ours]

    scores = translator.score_batch(texts, [pieces(target) for target in targets])
    for source, target, scored in zip(sources, targets, scores, strict=True):
        pair = Batch.of([source], [target])
        with torch.no_grad():
            logits = model.project(model.decode(pair.prefix, model.encode(pair.source)).states[0])
        logits[:, [PAD, UNK, BOS]] = -torch.inf
        expected = logits.log_softmax(-1).gather(1, pair.target.T).squeeze(1)
        assert scored.log_probs == pytest.approx(expected.tolist(), abs=1e-4)
