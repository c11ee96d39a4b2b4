"""How each kind of task is carried out. A phase reads artifacts, writes one artifact, and says how long it took."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench.config import Depth, ModelConfig, SearchConfig, TokenizerConfig, TrainConfig
from bench.data.batches import EncodedCorpus
from bench.data.corpus import Splits
from bench.data.datasets import get_dataset
from bench.data.tokenizer import Tokenizer
from bench.environment import environment
from bench.errors import UsageError
from bench.measure.cost import Ledger
from bench.measure.quality import score, sentence_bleu
from bench.method import Method, TrainingText
from bench.nmt.batch import EOS
from bench.nmt.export import load_model, save_model
from bench.nmt.model import Transformer, parameter_counts
from bench.nmt.search import Hypothesis, translate_ids
from bench.plan import Task, depth_of
from bench.registry import load_methods, source_hash
from bench.store import SCRATCH, Artifact, Store, write_json, write_text
from bench.train.distributed import together
from bench.train.trainer import Report, Trainer, chosen_precision, new_network

DEV = "dev"


@dataclass(frozen=True)
class Place:
    """Where a task runs: all that a worker needs besides the task itself."""

    store: Path
    dataset: str
    languages: tuple[str, str] | None = None
    data_dir: Path | None = None
    methods_dir: Path | None = None
    device: str = "cpu"
    workers: int = 1
    """Tasks that run at a time."""
    processes: int = 1
    """Processes that carry out one training together, each on a GPU of its own where ``device`` is one."""


def carry_out(task: Task, place: Place, report: Report | None = None) -> Artifact:
    """Make the task's artifact unless it is there; what it needs must be there."""
    phase = _Phase(task, place, Store(place.store), report)
    maker, resumable = {
        "tokenizer": (phase.tokenizer, False),
        "corpus": (phase.corpus, False),
        "teacher": (phase.teacher, True),
        "text": (phase.text, False),
        "student": (phase.student, True),
        "scores": (phase.scores, False),
    }[task.kind]
    if place.processes > 1 and task.kind in ("teacher", "student"):
        maker = phase.together
    where = environment(place.device, precision(task.inputs, place.device), place.workers)
    return phase.store.make(
        task.kind, task.inputs, lambda folder: {**maker(folder), "environment": where}, resumable=resumable
    )


def precision(inputs: Mapping[str, Any], device: str) -> str:
    """The number format a task computes in: what its training recipe says, else fp32."""
    recipe = inputs.get("training")
    return chosen_precision(TrainConfig.model_validate(recipe), torch.device(device)) if recipe else "fp32"


@dataclass(frozen=True)
class _Phase:
    task: Task
    place: Place
    store: Store
    report: Report | None

    def tokenizer(self, folder: Path) -> Mapping[str, Any]:
        train = self._splits().train
        ledger = Ledger()
        with ledger.phase("tokenizer"):
            config = TokenizerConfig.model_validate(self.task.inputs["tokenizer"])
            Tokenizer.train([*train.source, *train.target], config, folder / "tokenizer.model")
        return {"vocabulary": Tokenizer.load(folder / "tokenizer.model").size, "seconds": ledger.snapshot()}

    def corpus(self, folder: Path) -> Mapping[str, Any]:
        splits, tokenizer, ledger = self._splits(), self._tokenizer(), Ledger()
        limit = self._need("tokenizer").inputs["tokenizer"]["max_pieces"]
        with ledger.phase("encoding"):
            sizes = {}
            for name, text in {"train": splits.train, DEV: splits.dev, **splits.tests}.items():
                pairs = list(zip(tokenizer.encode(text.source), tokenizer.encode(text.target), strict=True))
                kept = [i for i, pair in enumerate(pairs) if name != "train" or max(map(len, pair)) <= limit]
                EncodedCorpus.write(folder / name, [pairs[i] for i in kept], tokenizer.size)
                _write_lines(folder / name / "source.txt", [text.source[i] for i in kept])
                _write_lines(folder / name / "target.txt", [text.target[i] for i in kept])
                sizes[name] = {"pairs": len(kept), "target_tokens": sum(len(pairs[i][1]) for i in kept)}
                sizes[name]["too_long"] = len(pairs) - len(kept)
        return {
            "sizes": sizes,
            "tests": list(splits.tests),
            "notes": list(splits.notes),
            "seconds": ledger.snapshot(),
        }

    def teacher(self, folder: Path) -> Mapping[str, Any]:
        shape = ModelConfig.model_validate(self.task.inputs["architecture"])
        method = load_methods().get("baseline")()
        return self._train(folder, method, shape, shape, shape, teacher=None, texts=[None])

    def student(self, folder: Path) -> Mapping[str, Any]:
        inputs = self.task.inputs
        method = load_methods(self.place.methods_dir).get(inputs["method"])(inputs["settings"])
        if source_hash(type(method)) != inputs["source"]:
            raise UsageError(f"the file of {method.name} was changed after the run had started: run it again.")
        shape, student, teacher = (
            ModelConfig.model_validate(inputs[name])
            for name in ("architecture", "student_architecture", "teacher_architecture")
        )
        frozen = load_model(self.store.get("teacher", inputs["teacher"]).folder) if inputs["teacher"] else None
        return self._train(folder, method, shape, student, teacher, teacher=frozen, texts=inputs["texts"])

    def together(self, folder: Path) -> Mapping[str, Any]:
        """The training of a teacher or a student by several processes."""
        place = self.place
        return together(place.processes, _member, self.task, place, folder, device=place.device, report=self.report)

    def text(self, folder: Path) -> Mapping[str, Any]:
        """Decode the training sources, and nothing else, with the teacher."""
        wanted = TrainingText.model_validate(self.task.inputs["text"])
        search = SearchConfig.model_validate(self.task.inputs["search"])
        corpus, tokenizer, ledger = self._corpus("train"), self._tokenizer(), Ledger()
        sources, n_best = corpus.sources(), 1 if wanted.choose == "best" else wanted.n_best
        with ledger.phase("teacher decoding"):
            found = translate_ids(
                load_model(self._need("teacher").folder).to(self.place.device),
                sources,
                search,
                n_best=n_best,
                device=self.place.device,
                progress=self._progress(len(sources), "decoding"),
            )
        with ledger.phase("choosing"):
            if wanted.choose == "closest":
                references = _read_lines(self._need("corpus").folder / "train" / "target.txt")
                found = [
                    [_closest(hypotheses, reference, tokenizer)]
                    for hypotheses, reference in zip(found, references, strict=True)
                ]
        pairs = [(source, [*h.ids, EOS]) for source, group in zip(sources, found, strict=True) for h in group if h.ids]
        EncodedCorpus.write(folder / "train", pairs, tokenizer.size)
        outputs = [(source, h) for source, group in zip(sources, found, strict=True) for h in group]
        return {
            "pairs": len(pairs),
            "target_tokens": sum(len(target) for _, target in pairs),
            "empty": sum(not h.ids for _, h in outputs),
            "truncated": sum(len(h.ids) + 1 >= search.max_length(len(source)) for source, h in outputs),
            "over_twice_the_source": sum(len(h.ids) > 2 * len(source) for source, h in outputs),
            "seconds": ledger.snapshot(),
        }

    def scores(self, folder: Path) -> Mapping[str, Any]:
        """Translate dev and the test sets, once, and score the detokenised text."""
        search = SearchConfig.model_validate(self.task.inputs["search"])
        model = load_model(self._need("teacher", "student").folder).truncated(depth_of(self.task)).to(self.place.device)
        tokenizer, corpus, ledger = self._tokenizer(), self._need("corpus"), Ledger()
        sets: dict[str, Any] = {}
        for name in (DEV, *corpus.details["tests"]):
            sources = self._corpus(name).sources()
            with ledger.phase("decoding"):
                progress = self._progress(len(sources), f"decoding {name}")
                lines = _translate(model, tokenizer, sources, search, self.place.device, progress)
            with ledger.phase("scoring"):
                quality = score(lines, _read_lines(corpus.folder / name / "target.txt"))
            _write_lines(folder / f"{name}.txt", lines)
            sets[name] = asdict(quality) | {"sentences": len(lines)}
        return {"sets": sets, "parameters": parameter_counts(model)._asdict(), "seconds": ledger.snapshot()}

    def _train(
        self,
        folder: Path,
        method: Method,
        shape: ModelConfig,
        student: ModelConfig,
        teacher_shape: ModelConfig,
        *,
        teacher: Transformer | None,
        texts: Sequence[str | None],
    ) -> Mapping[str, Any]:
        config = TrainConfig.model_validate(self.task.inputs["training"])
        seed, device, tokenizer = self.task.inputs["seed"], torch.device(self.place.device), self._tokenizer()
        network = new_network(shape, tokenizer.size, seed)
        selection = SearchConfig.model_validate(self.task.inputs["selection"] or {"beam": 1})
        dev_text = _read_lines(self._need("corpus").folder / DEV / "target.txt")
        dev = self._corpus(DEV)

        def dev_bleu(depth: Depth) -> float:
            return score(_translate(network, tokenizer, dev.sources(), selection, device, depth=depth), dev_text).bleu

        trainer = Trainer(
            method,
            config,
            network,
            teacher=teacher,
            modules=method.modules(student, teacher_shape),
            depths=[delivery.depth for delivery in method.deliveries(student, teacher_shape)],
            texts=[
                EncodedCorpus.open(self.store.get("text", key).folder / "train") if key else self._corpus("train")
                for key in texts
            ],
            dev=dev,
            dev_bleu=dev_bleu,
            seed=seed,
            device=device,
            folder=folder / SCRATCH,
            report=self.report,
        )
        trained = trainer.train()
        if trainer.group.leads:
            save_model(network, folder)
            write_json(folder / "history.json", list(trained.history))
        summary = asdict(trained)
        del summary["history"]
        return summary

    def _splits(self) -> Splits:
        """The corpus, cut to the preset's number of pairs. A task that needs the tokenizer asks for the same cut."""
        dataset, first = get_dataset(self.place.dataset, self.place.languages), self.task.inputs
        planned = self.task.upstream()[0].inputs["data"]
        splits = dataset.load(self.place.data_dir)
        if dataset.identity(self.place.data_dir) != planned:
            raise UsageError(f"the files of {dataset.name} were changed after the run had started: run it again.")
        dev = splits.dev.first(first.get("dev_pairs", 0))
        return Splits(splits.train.first(first["train_pairs"]), dev, splits.tests, splits.notes)

    def _need(self, *kinds: str) -> Artifact:
        """The finished artifact of one of these kinds among all that the task rests on."""
        found = [task for task in self.task.upstream() if task.kind in kinds and task is not self.task]
        return self.store.get(found[-1].kind, found[-1].key)

    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self._need("tokenizer").folder / "tokenizer.model")

    def _corpus(self, split: str) -> EncodedCorpus:
        return EncodedCorpus.open(self._need("corpus").folder / split)

    def _progress(self, total: int, note: str) -> Callable[[int], None] | None:
        report = self.report
        return None if report is None else lambda done: report(done, total, note)


def _member(task: Task, place: Place, folder: Path, *, device: str, report: Report | None) -> Mapping[str, Any]:
    """What one of several processes does of a training."""
    phase = _Phase(task, replace(place, device=device), Store(place.store), report)
    return phase.teacher(folder) if task.kind == "teacher" else phase.student(folder)


def _translate(
    model: Transformer,
    tokenizer: Tokenizer,
    sources: list[list[int]],
    search: SearchConfig,
    device: Any,
    progress: Callable[[int], None] | None = None,
    depth: Depth | None = None,
) -> list[str]:
    found = translate_ids(model, sources, search, device=device, progress=progress, depth=depth)
    return tokenizer.decode([hypotheses[0].ids for hypotheses in found])


def _closest(hypotheses: list[Hypothesis], reference: str, tokenizer: Tokenizer) -> Hypothesis:
    """Sequence-level interpolation: the hypothesis most like the reference; the likelier one of equals."""
    lines = tokenizer.decode([h.ids for h in hypotheses])
    return hypotheses[max(range(len(lines)), key=lambda i: (sentence_bleu(lines[i], reference), -i))]


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))


def _read_lines(path: Path) -> list[str]:
    return list(_lines(path))


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.removesuffix("\n")
