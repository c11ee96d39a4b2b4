"""CONTRIBUTING.md keeps its word: the method it shows passes the suite as written, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import torch

from bench.cli import group
from bench.contract import CHECKS, Check
from bench.losses import divergence
from bench.method import Method
from bench.registry import load_file
from bench.toy import Toy, toy_batch
from leaderboard.reviews import Review, read_reviews

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example() -> str:
    """The only Python file shown in full."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, flags=re.DOTALL | re.MULTILINE)
    return block


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> type[Method]:
    path = tmp_path_factory.mktemp("my_methods") / "selective_kd.py"
    path.write_text(example(), encoding="utf-8")
    return load_file(path)


def test_the_example_is_short() -> None:
    assert len(example().splitlines()) < 60


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_the_example_keeps_the_contract(check: Check, method: type[Method]) -> None:
    result = check(method)
    assert result.passed, result.detail


def test_the_example_distils_the_hardest_tokens(method: type[Method]) -> None:
    """Half of the tokens have a higher loss than the other half; the term is the divergence on those alone."""
    batch = toy_batch()
    toy = Toy.of(method({"share": 0.5}))
    assert toy.teacher is not None
    student, teacher = toy.student.forward(batch).log_probabilities, toy.teacher.forward(batch).log_probabilities
    nll = -torch.log_softmax(student, dim=-1)[torch.arange(batch.tokens), batch.labels]
    hard = nll >= nll.sort(descending=True).values[(batch.tokens + 1) // 2 - 1]
    kd = toy.method.loss(toy.step(batch))["kd"].value
    assert kd.item() == pytest.approx(divergence(teacher[hard], student[hard]).item(), rel=1e-5)
    assert kd.item() < divergence(teacher, student).item()


def test_every_file_and_command_it_names_exists() -> None:
    files = set(re.findall(r"\b(?:bench|methods|tests)/[\w/]+\.py\b", GUIDE)) - {
        "methods/my_method.py",
        "tests/test_my_method.py",
    }
    commands = set(re.findall(r"python -m bench ([\w-]+)", GUIDE))
    assert [name for name in sorted(files) if not (ROOT / name).is_file()] == []
    assert commands - set(group.commands) == set()
    assert {"new-method", "check", "run", "list", "submit", "validate"} <= commands


def test_the_review_it_shows_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```$", GUIDE, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "reviews.toml").write_text(block, encoding="utf-8")
    (review,) = read_reviews(tmp_path)
    assert review.verdict == "re-run"
    for verdict in get_args(Review.model_fields["verdict"].annotation):
        assert f"| `{verdict}` |" in GUIDE
