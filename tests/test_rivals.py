"""The comparison with fairseq and CTranslate2: what fairseq is given, and the page; the rest needs fairseq."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import rivals_fairseq
import torch
from rivals import Comparison, measured, merged, page
from rivals_fairseq import Fairseq, fairseq_weights, ours, theirs
from rivals_measured import (
    CTRANSLATE2,
    FAIRSEQ,
    OURS_NAME,
    Search,
    Training,
    Translation,
    by_ctranslate2,
    by_us,
)

from bench.config import ModelConfig, SearchConfig, preset
from bench.measure.rounds import Figure
from bench.nmt.batch import BOS, EOS, PAD, UNK
from bench.nmt.export import export_ctranslate2
from bench.nmt.model import Transformer
from bench.pace_search import Translator
from bench.train.trainer import new_network

SIDES = ("encoder", "decoder")
SHAPE = ModelConfig(norm="pre", width=8, ffn=16, heads=2, encoder_layers=2, decoder_layers=3)
LAYER = {
    "fc1": "inner",
    "fc2": "outer",
    "self_attn.out_proj": "attention.output",
    "self_attn_layer_norm": "attention_norm",
    "final_layer_norm": "feed_forward_norm",
}
DECODER = {
    "encoder_attn.q_proj": "cross.query",
    "encoder_attn.out_proj": "cross.output",
    "encoder_attn_layer_norm": "cross_norm",
}
NAMES = {
    **{f"{side}.layer_norm": f"{side}_norm" for side in SIDES},
    **{f"{side}.layers.1.{name}": f"{side}.1.{own}" for side in SIDES for name, own in LAYER.items()},
    **{f"decoder.layers.1.{name}": f"decoder.1.{own}" for name, own in DECODER.items()},
}
"""fairseq's modules and ours."""


def network(seed: int = 1) -> Transformer:
    """Every weight unlike any other."""
    model = new_network(SHAPE, vocabulary=12, seed=seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_()
    return model


def test_fairseq_gets_every_weight_once_and_each_projection_by_itself():
    model = network()
    found = {name: torch.from_numpy(weight) for name, weight in fairseq_weights(model).items()}
    embedding = found.pop("decoder.embed_tokens.weight")
    for copy in ("encoder.embed_tokens.weight", "decoder.output_projection.weight"):
        assert torch.equal(found.pop(copy), embedding)
    assert torch.equal(found.pop("positions"), model.source_positions)
    assert sum(weight.numel() for weight in found.values()) + embedding.numel() == sum(
        weight.numel() for weight in model.parameters()
    )
    for name, module in NAMES.items():
        for kind in ("weight", "bias"):
            assert torch.equal(found[f"{name}.{kind}"], model.get_parameter(f"{module}.{kind}")), name
    layer, prefix = model.decoder[2], "decoder.layers.2"
    for kind in ("weight", "bias"):
        own = [found[f"{prefix}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
        assert torch.equal(torch.cat(own), getattr(layer.attention.query_key_value, kind))
        cross = [found[f"{prefix}.encoder_attn.{part}_proj.{kind}"] for part in "kv"]
        assert torch.equal(torch.cat(cross), getattr(layer.cross.key_value, kind))


def test_special_pieces_keep_their_meaning():
    """fairseq's are BOS, PAD, EOS and UNK, from 0."""
    assert theirs([[9, EOS], [UNK, 4, BOS, PAD]]) == [[9, 2], [3, 4, 0, 1]]
    assert ours(theirs([[9, EOS], [UNK, 4, BOS, PAD]])) == [[9, EOS], [UNK, 4, BOS, PAD]]
    model = network()
    embedding = torch.from_numpy(fairseq_weights(model)["encoder.embed_tokens.weight"])
    for place, own in enumerate((BOS, PAD, EOS, UNK, 4, 5)):
        assert torch.equal(embedding[place], model.embedding.weight[own])


STUB = """
import json, sys
task = json.load(open(sys.argv[1]))
print(json.dumps({"fairseq": "0", "torch": "1"}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked == "end":
        sys.exit(3)
    print(json.dumps(task["answer"] if asked is None else asked + 1), flush=True)
"""


def test_another_process_is_asked_and_its_end_is_told(tmp_path, monkeypatch):
    stub = tmp_path / "stub.py"
    stub.write_text(STUB, encoding="utf-8")
    monkeypatch.setattr(rivals_fairseq, "WORKER", stub)
    with Fairseq(sys.executable, tmp_path, {"work": "training", "answer": 7}) as process:
        assert process.versions == {"fairseq": "0", "torch": "1"}
        assert (process.ready(4), process.run(), process.run()) == (5, 7, 7)
        for _ in range(2):  # it is still gone when asked again
            with pytest.raises(RuntimeError, match="ended with 3"):
                process.ready("end")


def test_translations_of_ctranslate2_come_in_order_and_greedy_ones_are_ours(tmp_path):
    pytest.importorskip("ctranslate2")
    model = new_network(SHAPE, vocabulary=12, seed=4).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1 if weight.dim() == 1 else 2)
    pieces = [f"p{i}" for i in range(model.vocabulary)]
    places = {piece: i for i, piece in enumerate(pieces)}
    export_ctranslate2(model, pieces, tmp_path / "model")
    sources = [[4, 5, EOS], [6, EOS], [7, 8, 9, 10, EOS], [11, 4, EOS]]
    translator = Translator(tmp_path / "model", {"device": "cpu", "inter_threads": 1, "intra_threads": 1})

    def found(beam: int, batch: int) -> list[list[int]]:
        config = SearchConfig(beam=beam, max_ratio=1e-9, max_extra=6, batch_sentences=batch)
        return by_ctranslate2(translator, places, pieces, sources, config)

    try:
        for batch in (1, 3):
            config = SearchConfig(beam=1, max_ratio=1e-9, max_extra=6, batch_sentences=batch)
            # At the limit ours ends with an end of sentence, which is left out.
            assert [ids[:5] for ids in found(1, batch)] == by_us(model, sources, config)
        several = found(3, 3)
        assert several == found(3, 1)
        assert len(set(map(tuple, several))) >= 3  # else their order would not show
    finally:
        translator.close()


def test_the_page_shows_rates_ratios_and_who_translates_alike():
    training = Training(
        "plain student",
        {OURS_NAME: Figure(3000, 0.1), FAIRSEQ: Figure(2400, 0.2)},
        ratio=Figure(1.25, 0.05),
        peak_share=Figure(0.7, 0.01),
    )
    translation = Translation(
        Search(beam=1, batch=1),
        sentences=50,
        rates={OURS_NAME: Figure(30, 0.1), FAIRSEQ: Figure(10, 0), CTRANSLATE2: Figure(60, 0)},
        ratios={FAIRSEQ: Figure(3, 0.1), CTRANSLATE2: Figure(0.5, 0.1)},
        same={FAIRSEQ: 0.98, CTRANSLATE2: 1.0},
        bleu={OURS_NAME: 27.04, FAIRSEQ: 26.96, CTRANSLATE2: 27.0},
    )
    batched = replace(translation, search=Search(beam=5, batch=64))
    several = Comparison(2, "Measured on a machine", (training,), (batched, translation))
    shown = page(preset("small"), [replace(several, threads=1), several])
    assert "| beam 5, batch of 64 | ours | 30.0 [10%] |" in shown
    assert "width 256, student 2-2 and teacher\n4-4, at most" in shown
    assert "| plain student | 3,000 [10%] | 2,400 [20%] | 1.25 [5%] | 70% [1%] |" in shown
    assert "| greedy, one at a time | ours | 30.0 [10%] |  |  | 27.0 |\n|  | fairseq | 10.0 [0%] | 3.00 [10%]" in shown
    assert "|  | CTranslate2 | 60.0 [0%] | 0.50 [10%] | 100.0% | 27.0 |" in shown
    assert re.findall("^## .*", shown, re.MULTILINE) == ["## One thread", "## 2 threads"]
    assert shown.endswith("\n\nMeasured on a machine.\n")


def test_what_was_measured_with_other_numbers_of_threads_stays(tmp_path):
    assert measured(tmp_path) == []
    one, two, four, newer = (Comparison(n, name, (), ()) for n, name in ((1, "a"), (2, "b"), (4, "c"), (2, "d")))
    assert merged(two, [one, four]) == [one, two, four]
    assert merged(newer, [one, two, four]) == [one, newer, four]


def test_the_published_page_has_the_published_numbers():
    docs = Path(__file__).parent.parent / "docs"
    assert (docs / "rivals.md").read_text(encoding="utf-8") == page(preset("small"), measured(docs))
