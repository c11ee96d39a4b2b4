"""What ``rivals_fairseq.py`` asks of fairseq 0.12.2, in a Python that has it:

    python tests/rivals_worker.py TASK.json

The task says which text, sizes and weights. Each line on standard input is a request, and one line answers it: what to
do next, which is made ready, or null to do that. Nothing of the project is imported: fairseq needs versions of its own.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fairseq
import numpy as np
import torch
from fairseq import options, tasks
from fairseq.data import Dictionary, LanguagePairDataset
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.trainer import Trainer

SPECIALS = 4
"""Ids that stand for no piece; those of pieces are the same on both sides."""
BOS, PAD, EOS, UNK = range(SPECIALS)


def serve(given: dict[str, Any]) -> None:
    """Answer requests until there are no more."""
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(given["threads"])
    made = _Setup(given)
    make: Callable[[Any], Any] = made.training() if given["work"] == "training" else made.translation()
    answer({"fairseq": fairseq.__version__, "torch": torch.__version__})
    run: Callable[[], Any] = nothing
    for line in sys.stdin:
        asked = json.loads(line)
        if asked is None:
            answer(run())
        else:
            run, ready = make(asked)
            answer(ready)


def nothing() -> None:
    """What is done before any work was made ready."""


def answer(found: Any) -> None:
    """On a line of its own."""
    print(json.dumps(found), flush=True)


class _Setup:
    """Text, task and model as fairseq's own command-line tools make them."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.dictionary = Dictionary()
        for piece in range(SPECIALS, given["vocabulary"]):
            self.dictionary.add_symbol(f"p{piece}")
        found = options.parse_args_and_arch(options.get_training_parser(), arguments(given))
        self.config = convert_namespace_to_omegaconf(found)
        task_class = tasks.TASK_REGISTRY["translation"]
        self.task = task_class(self.config.task, self.dictionary, self.dictionary)
        self.model = self.task.build_model(self.config.model)

    def training(self) -> Callable[[int], tuple[Callable[[], None], int]]:
        """Makes so many updates ready, and says how many real target tokens they have."""
        pairs = json.loads(Path(self.given["text"]).read_text(encoding="utf-8"))
        sides = [[torch.tensor(ids) for ids in side] for side in pairs]
        lengths = [np.array([len(ids) for ids in side]) for side in sides]
        names = self.dictionary
        self.task.datasets["train"] = LanguagePairDataset(
            sides[0], lengths[0], names, sides[1], lengths[1], names, shuffle=True
        )
        criterion = self.task.build_criterion(self.config.criterion)
        trainer = Trainer(self.config, self.task, self.model, criterion)
        batches = self._batches(trainer)

        def make(updates: int) -> tuple[Callable[[], None], int]:
            chosen = list(itertools.islice(batches, updates))

            def run() -> None:
                for batch in chosen:
                    trainer.train_step([batch])

            return run, sum(batch["ntokens"] for batch in chosen)

        return make

    def _batches(self, trainer: Trainer) -> Iterator[dict[str, Any]]:
        for epoch in itertools.count(1):
            found = self.task.get_batch_iterator(
                self.task.dataset("train"),
                max_tokens=self.given["batch_tokens"],
                required_batch_size_multiple=self.config.dataset.required_batch_size_multiple,
                seed=1,
                epoch=epoch,
            ).next_epoch_itr(shuffle=True)
            trainer.begin_epoch(epoch)
            yield from found

    def translation(self) -> Callable[[dict[str, Any]], tuple[Callable[[], list[list[int]]], None]]:
        """Makes the translation of sentences ready, which gives the best hypothesis of each, without its end."""
        self._load(np.load(self.given["weights"]))
        self.model.eval()
        self.model.prepare_for_inference_(self.config)

        def make(asked: dict[str, Any]) -> tuple[Callable[[], list[list[int]]], None]:
            for name in ("beam", "lenpen", "min_len", "max_len_a", "max_len_b"):
                setattr(self.config.generation, name, asked[name])
            generator = self.task.build_generator([self.model], self.config.generation)
            sources = [torch.tensor(ids) for ids in asked["sources"]]
            lengths = torch.tensor([len(ids) for ids in sources])
            dataset = self.task.build_dataset_for_inference(sources, lengths)
            order = np.argsort(-lengths.numpy(), kind="stable")

            def run() -> list[list[int]]:
                found: dict[int, list[int]] = {}
                for start in range(0, len(order), asked["batch"]):
                    batch = dataset.collater([dataset[i] for i in order[start : start + asked["batch"]]])
                    with torch.no_grad():
                        best = generator.generate([self.model], batch, bos_token=BOS)
                    for i, hypotheses in zip(batch["id"].tolist(), best):
                        found[i] = hypotheses[0]["tokens"].tolist()[:-1]
                return [found[i] for i in range(len(sources))]

            return run, None

        return make

    def _load(self, weights: Any) -> None:
        """The project's weights under fairseq's names, and its positions, which interleave sine and cosine."""
        given = {name: torch.from_numpy(weights[name]) for name in weights.files}
        positions = given.pop("positions")
        # Of an earlier version of its checkpoints fairseq drops the norms at the end.
        versions = {f"{side}.version": torch.tensor([3.0]) for side in ("encoder", "decoder")}
        self.model.load_state_dict(given | versions)
        found = self.model.state_dict()
        if wrong := [
            name for name, weight in given.items() if name not in found or not torch.equal(found[name], weight)
        ]:
            raise SystemExit(f"weights that fairseq did not take: {', '.join(wrong)}")
        for side in (self.model.encoder, self.model.decoder):
            side.embed_positions.weights = torch.cat((torch.zeros(PAD + 1, positions.size(1)), positions))


def arguments(given: dict[str, Any]) -> list[str]:
    """fairseq-train's: the same model and recipe."""
    found = ["", "--source-lang", "a", "--target-lang", "b", "--task", "translation", "--arch", "transformer"]
    for side in ("encoder", "decoder"):
        found += [f"--{side}-embed-dim", str(given["width"]), f"--{side}-ffn-embed-dim", str(given["ffn"])]
        found += [f"--{side}-attention-heads", str(given["heads"]), f"--{side}-layers", str(given[f"{side}_layers"])]
        found += [f"--{side}-normalize-before"]
    found += ["--share-all-embeddings", "--dropout", str(given["dropout"])]
    found += ["--optimizer", "adam", "--adam-betas", str(tuple(given["betas"])), "--adam-eps", str(given["epsilon"])]
    found += ["--clip-norm", str(given["clip_norm"]), "--lr", str(given["learning_rate"])]
    found += ["--lr-scheduler", "inverse_sqrt", "--warmup-updates", str(given["warmup_updates"])]
    found += ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", str(given["label_smoothing"])]
    return [*found, "--max-tokens", str(given["batch_tokens"]), "--num-workers", "0", "--cpu", "--seed", "1"]


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
