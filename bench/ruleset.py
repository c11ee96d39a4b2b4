"""The rules of the comparison: one object that prints its text for the page and gives the ranking its seeds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ruleset:
    """What makes two rows of one table comparable."""

    budget: str = "target tokens"
    """What is held equal between the trained students."""
    seeds: int = 3
    """The fewest finished seeds a row needs to be placed in a table."""
    selection: str = "dev"
    """The text that chooses the checkpoint."""
    metric: str = "BLEU"
    """The score that orders a table."""

    def required_seeds(self, asked: int) -> int:
        """How many seeds a row needs when its run asked for ``asked``."""
        return max(self.seeds, asked)

    def text(self) -> list[str]:
        """The rules as sentences for the reader."""
        return [
            "All rows of a table share the training pairs, the tokenizer, the recipe and the student's shape; where a "
            "row has another shape, its shape column says so.",
            f"Each student's training run gets the same number of {self.budget}, counted with the end of sentence and "
            "without padding. The teacher has a budget of its own, named in the recipe.",
            "The plain student is trained by the same recipe as every method, without anything from a teacher.",
            "Each method runs with the settings on its row's page; no settings were searched for.",
            f"The checkpoint is chosen on {self.selection} text. Test text is scored once, with the final model of "
            "each run.",
            f"A table is ordered by the mean {self.metric} over seeds on its first test set, computed by sacreBLEU on "
            "detokenised text; the signature is given with each score.",
            f"A row is placed only when every seed that its run asked for, and at least {self.seeds}, has finished and "
            "all were run alike. Other rows are shown apart with the reason.",
            "Differences are shown with their spread; no significance test has been applied.",
            "Training time is the wall time of training the row's own model. A run that delivers several students is "
            "divided over them.",
            "Total time adds what the row used of everything else: tokenizer, the teacher's training, decoding the "
            "training text, evaluation. A phase that several rows use is divided by their number.",
        ]


RULES = Ruleset()
"""The rules in force."""
