"""fairseq 0.12.2 in a process of its own, with the project's text and weights."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rivals_prepared import Prepared

from bench.config import ModelConfig
from bench.nmt.batch import BOS, EOS, PAD, UNK
from bench.nmt.model import Transformer
from bench.sweep.slots import usable_cores

SPECIALS = (BOS, PAD, EOS, UNK)
"""The special ids in fairseq's order."""

WORKER = Path(__file__).with_name("rivals_worker.py")


class Fairseq:
    """fairseq in a process of its own.

    Raises:
        RuntimeError: it ended before it answered; what it wrote says why.
    """

    def __init__(self, python: str, folder: Path, task: dict[str, Any]) -> None:
        path = folder / f"{task['work']}.json"
        path.write_text(json.dumps(task), encoding="utf-8")
        command = [python, "-W", "ignore", str(WORKER), str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions: dict[str, str] = self._answer()
        """Of fairseq and of its PyTorch."""

    def __enter__(self) -> Fairseq:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ready(self, request: Any) -> Any:
        """Let it make work ready; its answer."""
        return self._ask(request)

    def run(self) -> Any:
        """Let it do what is ready; what came of it."""
        return self._ask(None)

    def _ask(self, request: Any) -> Any:
        assert self._process.stdin
        with suppress(BrokenPipeError):  # that it has ended is told by its answer
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"fairseq's process has ended with {self._process.wait()}")
        return json.loads(line)


def fairseq_weights(model: Transformer) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """The weights of a pre-norm model under fairseq's names, and the table of positions."""
    found: dict[str, torch.Tensor] = {"positions": model.source_positions}
    embedding = model.embedding.weight.detach().clone()
    embedding[: len(SPECIALS)] = embedding[list(SPECIALS)]
    for name in ("encoder.embed_tokens", "decoder.embed_tokens", "decoder.output_projection"):
        found[f"{name}.weight"] = embedding
    for side, layers, last in (
        ("encoder", model.encoder, model.encoder_norm),
        ("decoder", model.decoder, model.decoder_norm),
    ):
        found |= _renamed(last, f"{side}.layer_norm")
        for number, layer in enumerate(layers):
            prefix = f"{side}.layers.{number}"
            found |= _attention(layer.attention, layer.attention.query_key_value, f"{prefix}.self_attn")
            found |= _renamed(layer.attention_norm, f"{prefix}.self_attn_layer_norm")
            found |= _renamed(layer.inner, f"{prefix}.fc1") | _renamed(layer.outer, f"{prefix}.fc2")
            found |= _renamed(layer.feed_forward_norm, f"{prefix}.final_layer_norm")
            if side == "decoder":
                found |= _attention(layer.cross, layer.cross.key_value, f"{prefix}.encoder_attn")
                found |= _renamed(layer.cross.query, f"{prefix}.encoder_attn.q_proj")
                found |= _renamed(layer.cross_norm, f"{prefix}.encoder_attn_layer_norm")
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def _attention(attention: Any, inputs: torch.nn.Linear, name: str) -> dict[str, torch.Tensor]:
    """Its projections, of which ``inputs`` makes the last two or all three."""
    parts = inputs.weight.size(0) // inputs.weight.size(1)
    found = _renamed(attention.output, f"{name}.out_proj")
    for kind, own in _renamed(inputs, "").items():
        found |= {
            f"{name}.{part}_proj{kind}": block for part, block in zip("qkv"[-parts:], own.chunk(parts), strict=True)
        }
    return found


def _renamed(module: Any, name: str) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": module.weight, f"{name}.bias": module.bias}


def theirs(sentences: Sequence[Sequence[int]]) -> list[list[int]]:
    """Ids as fairseq has them; those of pieces are the same."""
    return [[SPECIALS.index(i) if i < len(SPECIALS) else i for i in sentence] for sentence in sentences]


def ours(sentences: Sequence[Sequence[int]]) -> list[list[int]]:
    """What ``theirs`` was made of."""
    return [[SPECIALS[i] if i < len(SPECIALS) else i for i in sentence] for sentence in sentences]


SHAPE = ("width", "ffn", "heads", "encoder_layers", "decoder_layers", "dropout")
RECIPE = (
    "batch_tokens", "learning_rate", "warmup_updates", "betas", "epsilon", "clip_norm", "label_smoothing"
)  # fmt: skip


def fairseq_task(prepared: Prepared, work: str, shape: ModelConfig, folder: Path) -> dict[str, Any]:
    """What a process of fairseq is told, with its files in ``folder``."""
    config = prepared.sizes.training
    text, weights = folder / "text.json", folder / "weights.npz"
    if not text.exists():
        text.write_text(json.dumps([theirs(side) for side in zip(*prepared.pairs, strict=True)]), encoding="utf-8")
        np.savez(weights, **fairseq_weights(prepared.teacher))
    return {
        "work": work,
        "threads": usable_cores(),
        "vocabulary": prepared.tokenizer.size,
        "text": str(text),
        "weights": str(weights),
        **{name: getattr(shape, name) for name in SHAPE},
        **{name: getattr(config, name) for name in RECIPE},
    }
