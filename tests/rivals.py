"""How fast fairseq trains and translates beside this project, and CTranslate2 translates. Run by hand, on a machine
that does nothing else, for 15 minutes on two cores, and 20 more the first time:

    python tests/rivals.py FAIRSEQ DATA WORK [DOCS]

FAIRSEQ is the Python of an environment with fairseq 0.12.2 and the same PyTorch, DATA the folder of data sets, of which
Multi30k is used. The teacher that all three translate with is trained first and kept in WORK: only the first time takes
so long, and after a change of the preset WORK must be emptied, and ``rivals.json`` removed. This and ``rivals.md`` are
written into the folder DOCS (docs by default). All programs have as many threads as there are cores that the process
may use: ``taskset -c 0 python ...`` measures with one. What DOCS holds of other numbers of threads stays.

fairseq 0.12.2 runs on Python 3.10, with omegaconf 2.0.6 and hydra-core 1.0.7, which want a pip before 24.1. Its archive
on PyPI lacks the source of an extension: leave those under "from torch.utils import cpp_extension" out of its setup.py,
they are of no use here. Install it with --no-deps --no-build-isolation, and before it torch, numpy, cython, setuptools
before 70, antlr4-python3-runtime 4.8, bitarray, cffi, regex, sacrebleu and tqdm.

All work with the same pieces, sizes, threads and limits; each has a process of its own, and all are timed in turn.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter
from rivals_fairseq import Fairseq, fairseq_task
from rivals_measured import FAIRSEQ, OURS_NAME, Training, Translation, compare_training, compare_translation
from rivals_prepared import DATASET, TEACHER_TOKENS, TEST, prepare

from bench.config import Preset
from bench.environment import cpu_name
from bench.measure.load import CpuWatch
from bench.measure.rounds import Figure
from bench.pace import CPU_SIZE
from bench.store import write_json, write_text
from bench.sweep.slots import usable_cores

ROUNDS = 5
NUMBERS = "rivals.json"


@dataclass(frozen=True)
class Comparison:
    """What came of it with so many threads."""

    threads: int
    conditions: str
    """Machine and versions."""
    training: tuple[Training, ...]
    translation: tuple[Translation, ...]


def page(sizes: Preset, comparisons: Sequence[Comparison]) -> str:
    """What came of it, in Markdown."""
    student, teacher = sizes.student.depth, sizes.teacher.depth
    translation = comparisons[0].translation
    return f"""# Beside fairseq and CTranslate2

The same data, sizes and threads, and for translation the same weights. Each program has a process of its own, and all
are timed in turn: medians of {ROUNDS} rounds, and in brackets their spread (highest less lowest, by the median). Ratios
are taken within each round. What differs by less than the spread may not differ. Compare within a section:
each was measured at another time, that of one thread with all programs bound to one core. The numbers are in
[rivals.json](rivals.json); `tests/rivals.py` measures them and says how.

Training: models and recipe of the preset `{sizes.name}`: width {sizes.student.width}, student {student} and teacher
{teacher}, at most {sizes.training.batch_tokens:,} tokens of the longer side a batch, padding included, fp32; the
training text of {DATASET} in {sizes.tokenizer.vocabulary:,} pieces. Each program chooses its own batches. fairseq's are
made before its clock starts, ours while it runs. The last column of these tables is ours: operations on real tokens a
second, by those of a product of two matrices of {CPU_SIZE:,} rows and columns in the same rounds, by the faster of two
libraries.

Translation: {translation[0].sentences:,} sentences of {TEST} with the {teacher} teacher after {TEACHER_TOKENS:,} target
tokens of training, in fp32; one at a time the first {translation[-1].sentences}, whose BLEU is that of so few. Clocks
run to target ids, with batching and padding. CTranslate2's include the way to its process and back, and from ids to
pieces and back; fairseq's the way back only, its sources being sent and sorted before. The limit of length is the same
for all, but that fairseq and CTranslate2 apply that of the longest sentence to the whole batch. With beams, all three
stop once as many hypotheses have finished as the beam is wide. CTranslate2 is one worker with as many threads as the
others; several workers, and int8, are not compared.

{"".join(map(section, comparisons)).rstrip()}
"""


def section(comparison: Comparison) -> str:
    """What came of it with so many threads, in Markdown."""
    threads = "One thread" if comparison.threads == 1 else f"{comparison.threads} threads"
    return f"""## {threads}

{training_table(comparison.training)}
{translation_table(comparison.translation)}
{comparison.conditions}.

"""


def training_table(training: Sequence[Training]) -> str:
    """Of both programs, in Markdown."""
    lines = ["| target tokens/s | ours | fairseq | ours by fairseq | useful FLOP/s by peak |", "|---|---|---|---|---|"]
    for each in training:
        ours, other = (_shown(each.tokens[name], ",.0f") for name in (OURS_NAME, FAIRSEQ))
        lines.append(
            f"| {each.name} | {ours} | {other} | {_shown(each.ratio, '.2f')} | {_shown(each.peak_share, '.0%')} |"
        )
    return "\n".join(lines) + "\n"


def translation_table(translation: Sequence[Translation]) -> str:
    """Of all programs, in Markdown."""
    lines = ["| | program | sentences/s | ours by this | same output as ours | BLEU |", "|---|---|---|---|---|---|"]
    for each in translation:
        search = "greedy" if each.search.beam == 1 else f"beam {each.search.beam}"
        way = f"{search}, {f'batch of {each.search.batch}' if each.search.batch > 1 else 'one at a time'}"
        for name, rate in each.rates.items():
            by = _shown(each.ratios[name], ".2f") if name in each.ratios else ""
            same = f"{each.same[name]:.1%}" if name in each.same else ""
            lines.append(f"| {way} | {name} | {_shown(rate, ',.1f')} | {by} | {same} | {each.bleu[name]:.1f} |")
            way = ""
    return "\n".join(lines) + "\n"


def _shown(figure: Figure, form: str) -> str:
    return f"{format(figure.median, form)} [{figure.spread:.0%}]"


def main(python: str, data: Path, work: Path, docs: Path) -> None:
    """Measure all and write what came of it."""
    import ctranslate2

    torch.set_num_threads(usable_cores())
    known = measured(docs)
    prepared, watch = prepare(data, work), CpuWatch()
    with tempfile.TemporaryDirectory() as folder:
        with Fairseq(
            python, Path(folder), fairseq_task(prepared, "training", prepared.sizes.student, Path(folder))
        ) as fairseq:
            theirs = fairseq.versions
        if released(theirs["torch"]) != released(torch.__version__):
            raise SystemExit(f"fairseq runs with PyTorch {theirs['torch']}, this is {torch.__version__}: take the same")
        training = compare_training(prepared, python, Path(folder), ROUNDS)
        translation = compare_translation(prepared, python, Path(folder), ROUNDS)
    conditions = (
        f"Measured on {cpu_name()} with PyTorch {torch.__version__}, CTranslate2 {ctranslate2.__version__} and fairseq "
        f"{theirs['fairseq']} on PyTorch {theirs['torch']}"
    )
    if shared := watch.shared():
        conditions += f" ({shared})"
    docs.mkdir(parents=True, exist_ok=True)
    newest = Comparison(usable_cores(), conditions, tuple(training), tuple(translation))
    found = merged(newest, known)
    write_json(docs / NUMBERS, [asdict(each) for each in found])
    write_text(docs / "rivals.md", page(prepared.sizes, found))


def measured(docs: Path) -> list[Comparison]:
    """What the folder holds."""
    numbers = docs / NUMBERS
    return TypeAdapter(list[Comparison]).validate_json(numbers.read_bytes()) if numbers.exists() else []


def merged(newest: Comparison, known: Sequence[Comparison]) -> list[Comparison]:
    """All by their threads; the newest replaces what is known of as many."""
    others = [each for each in known if each.threads != newest.threads]
    return sorted([newest, *others], key=lambda each: each.threads)


def released(name: str) -> str:
    """A version without what it was built for."""
    return name.partition("+")[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Training and translation beside fairseq and CTranslate2.")
    parser.add_argument("fairseq", help="Python of an environment with fairseq 0.12.2")
    for name in ("data", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("docs", type=Path, nargs="?", default=Path("docs"))
    main(*vars(parser.parse_args()).values())
