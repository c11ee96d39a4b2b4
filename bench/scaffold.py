"""Writing a first version of a new method and of its test."""

from __future__ import annotations

import keyword
from pathlib import Path
from string import Template

from bench.errors import UsageError
from bench.registry import RESERVED, load_methods

METHOD = Template('''\
"""$title: say in one sentence what the student learns from."""

from __future__ import annotations

from torch import Tensor

from bench.losses import divergence
from bench.method import Method, Positions, Range, Step, TeacherText, TeacherUse, Term, setting


class $class_name(Method):
    """Say what the loss is, as a formula, and where it comes from.

    Here: (1 - weight) * label-smoothed CE + weight * KL(teacher || student).
    """

    name = "$name"
    title = "$title"
    summary = "One or two sentences for the leaderboard."
    # description = "A few sentences more, for the method's own page."
    equation = r"\\mathcal{L} = (1 - w) \\, \\mathcal{L}_{\\text{CE}} + w \\sum_{t} \\text{KL}(p_T \\parallel p_S)"
    # paper = Paper("Authors: Title. Venue", 2024, "https://...")
    teacher = TeacherUse.FROZEN
    plain = {"weight": 0.0}  # the settings with which this is plain training; None if there are none

    class Settings(TeacherText):  # with these, `data` chooses references or the teacher's translations
        # Each with the published value, what it does, its rules, and where tuning looks.
        weight: float = setting(0.5, "Weight of the teacher's term.", ge=0, le=1, search=Range(0.1, 0.9))

    def loss(self, step: Step) -> dict[str, Term]:
        assert step.teacher is not None  # it is there because of TeacherUse.FROZEN
        # A pass computes only what is asked for: attention=("cross",) and hidden=True give more.
        student = step.student.forward(step.batch)
        teacher = step.teacher.forward(step.batch)

        # Called for some target positions at a time, with log-probabilities of shape (positions, vocabulary); a term is
        # a sum over positions. A loss that looks at all of them together takes `student.log_probabilities`.
        def terms(at: Positions, student: Tensor, teacher: Tensor) -> dict[str, Term]:
            return {
                "nll": Term(at.cross_entropy(student), 1 - self.settings.weight),
                "kd": Term(divergence(teacher, student), self.settings.weight),
            }

        return step.over_positions(terms, student, teacher)

    # More can be said by overriding stages(), modules(), architecture() or deliveries(): see bench/method.py.
''')

TEST = Template('''\
"""$title keeps the contract of a method."""

from pathlib import Path

import pytest

from bench.contract import CHECKS, Check
from bench.registry import load_file

METHOD = load_file(Path(__file__).parent.parent / "methods" / "$name.py")


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_contract(check: Check) -> None:
    result = check(METHOD)
    if result.skipped:
        pytest.skip(result.detail)
    assert result.passed, result.detail
''')


def new_method(name: str, folder: Path) -> tuple[Path, Path]:
    """Write ``methods/NAME.py`` and ``tests/test_NAME.py`` under ``folder``; returns their paths.

    Raises:
        UsageError: the name is no identifier, means something else, or is taken.
    """
    if not name.isidentifier() or name != name.lower() or name.startswith("_") or keyword.iskeyword(name):
        raise UsageError(f"{name!r} cannot name a method: use lower-case letters, digits and _, such as my_method")
    if name in RESERVED:
        raise UsageError(f"{name!r} cannot name a method: it means something else on the command line")
    method, test = folder / "methods" / f"{name}.py", folder / "tests" / f"test_{name}.py"
    for path in (method, test):
        if path.exists():
            raise UsageError(f"{path} is already there")
    if name in load_methods().found:
        raise UsageError(f"there is already a method {name!r}")
    words = name.split("_")
    names = {"name": name, "title": " ".join(words).capitalize(), "class_name": "".join(map(str.capitalize, words))}
    for path, template in ((method, METHOD), (test, TEST)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(template.substitute(names), encoding="utf-8")
    return method, test
