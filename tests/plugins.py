"""Method files that tests write."""

from pathlib import Path

PLUG_IN = """
import os
import signal
from pathlib import Path

from bench.method import Method, Term, UsageError


class Mine(Method):
    name = "{name}"
    title = "Mine"

    def stages(self):
        {planning}
        return super().stages()

    def loss(self, step):
        nll = step.positions.cross_entropy(step.student.forward(step.batch).log_probabilities)
        {deed}
        return {{"nll": Term(nll)}}
"""
SEARCHED = """
    class Settings(Method.Settings):
        weight: float = setting(0.4, "A weight.", ge=0, le=1, search=Range(0.0, 1.0))

    def loss"""
"""What ``searching`` puts before the loss."""
SOME_FAIL = 'if self.settings.weight > 0.5: raise ValueError("too heavy")'
"""For ``searching``: trials of large weights fail."""


def plug_in(folder: Path, name: str, deed: str = "pass", *, planning: str = "pass") -> None:
    """Write a method that does ``deed`` once its loss ``nll`` is there, and ``planning`` before it gives its stages."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(PLUG_IN.format(name=name, deed=deed, planning=planning), encoding="utf-8")


def searching(folder: Path, name: str, deed: str) -> None:
    """A plug-in with one searched setting."""
    plug_in(folder, name, deed)
    path = folder / f"{name}.py"
    text = path.read_text().replace("\n    def loss", SEARCHED, 1)
    path.write_text(text.replace("import Method,", "import Method, Range, setting,"))
