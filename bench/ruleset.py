"""The rules of the comparison: one object that prints its text for the page and gives the ranking its seeds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ruleset:
    """What makes two rows of one table comparable."""

    seeds: int = 3
    """The fewest finished seeds a row needs to be placed in a table."""
    selection: str = "dev"
    """The text that chooses the settings and the checkpoint."""
    metric: str = "BLEU"
    """The score that orders a table."""
    overrun: float = 0.1
    """The share of its budget that a training may take beyond it, for it ends with a whole update and an evaluation."""
    alpha: float = 0.05
    """The chance of any wrong claim among those of a family of tests."""
    randomisations: int = 10_000
    """Trials of a randomisation test."""
    replicates: int = 2_000
    """Resamples behind an interval."""
    level: float = 0.95
    """The share of intervals that are to hold the true value."""
    gap: float = 0.02
    """The share by which the phases of an artifact may miss the wall time that its making took."""
    gap_seconds: float = 0.5
    """What they may always miss, for work that is over soon on a machine that does more at a time than it can."""
    spread: float = 0.05
    """The share of its median by which the rounds of a timing may differ before it is marked."""
    floor: float = 2.0
    """The BLEU that a student must reach for its table to be ranked: below it none has learned to translate."""
    degenerate: float = 0.05
    """The share of degenerate outputs of one kind from which on a row is marked."""

    def required_seeds(self, asked: int) -> int:
        """How many seeds a row needs when its run asked for ``asked``."""
        return max(self.seeds, asked)

    def overspent(self, limit: float, spent: float, batch: int = 0) -> bool:
        """Whether a training took too much beyond its limit; ``batch``, in the same unit, it may always exceed."""
        return spent - limit > max(limit * self.overrun, batch)

    def unaccounted(self, wall: float, phases: float) -> bool:
        """Whether the seconds of an artifact's phases do not add up to its wall time."""
        return abs(wall - phases) > max(wall * self.gap, self.gap_seconds)

    def text(self) -> list[str]:
        """The rules as sentences for the reader."""
        return [sentence for section in self.sections().values() for sentence in section]

    def sections(self) -> dict[str, list[str]]:
        """The rules by what they are about."""
        return {
            "Recipe and budget": self._recipe(),
            "Tuning": self._tuning(),
            "Quality": self._quality(),
            "Significance and ranks": self._significance(),
            "Speed": self._speed(),
            "Costs": self._costs(),
        }

    def _recipe(self) -> list[str]:
        return [
            "All rows of a table share the training pairs, the tokenizer, the recipe, the budget, the number of trials "
            "and the student's shape; where a row has another shape, its shape column says so.",
            "Each student's training run gets the same budget: a number of target tokens, counted with the end of "
            "sentence and without padding, unless the table names another kind. That may be wall-clock time of the "
            "training, or device-hours: then a student whose method needs a teacher pays for that teacher's training "
            "and decoding in full, and trains with what is left. The teacher has a budget of its own, named in the "
            "recipe. Time buys more on a faster machine: a table of such a budget is of one machine, and of one share "
            "of it, in tasks at a time, threads and processes.",
            "A row is not placed if the training of a seed took over "
            f"{100 * self.overrun:g} % more than its budget; a number of target tokens may always be exceeded by one "
            "batch in each stage of the training.",
            "The plain student is trained and tuned by the same rules as every method, without anything from a "
            "teacher.",
            "A teacher runs over every batch, unless the table says that its signals are cached: then its "
            "distributions at gold prefixes were computed once, and of each the likeliest tokens and the share of all "
            "others kept, for every method that asks for nothing else there.",
        ]

    def _tuning(self) -> list[str]:
        return [
            "Where a table says that it was tuned, each method and the plain student have the same number of trials, "
            f"and the settings of the trial with the highest {self.selection} {self.metric} win: the mean over the "
            "students that the method delivers; of equals, the earliest trial. The first trial has the published "
            "settings. Values that the command fixed are the same in all trials. A trial that fails is not replaced.",
            "On the official track the other trials come from one list drawn beforehand, scrambled points of a Sobol "
            "sequence, so that values shared by all methods, such as the learning rate, are alike in the same trial of "
            "each. A row whose trials had other shared values than the plain student's is not placed.",
            "On the open track a sampler that learns from earlier trials proposes them, and trials that fall behind "
            "may be stopped. Its rows have tables of their own and are not ranked with those of the official track.",
            "A trial is trained with a seed that no final run has. The final runs are trained anew with the winner's "
            "settings, one for each seed.",
            "All trials of all methods learn from the teacher of the first seed, which the first final run has too.",
            "Where a table was not tuned, each row has the settings on its page, and none were searched for.",
        ]

    def _quality(self) -> list[str]:
        return [
            f"The checkpoint is chosen on {self.selection} text. Test text is decoded with the final model of each run "
            "only, each test set once, or again where that was interrupted or its outputs were lost. Every time is "
            "logged in the record and shown on the row's page, which says so where a record has no log.",
            f"A table is ordered by the mean {self.metric} over seeds on its first test set, computed by sacreBLEU on "
            "detokenised text; the signature is given with each score.",
            f"A row is placed only when every seed that its run asked for, and at least {self.seeds}, has finished and "
            "all were run alike. Other rows are shown apart with the reason, and so are rows whose records are of an "
            "earlier schema, which says less, and those that maintainers withdrew. Nothing is compared with these.",
            f"An interval of a row's {self.metric} is to hold, in {100 * self.level:g} % of cases, what many seeds "
            "would have on average over sentences like these. Rows whose intervals overlap may differ "
            "significantly all the same, for a test compares them on the same sentences.",
            f"A row is marked where more than {100 * self.degenerate:g} % of its outputs are degenerate in one way: "
            "empty, repeating, copied from the source, or over-long.",
        ]

    def _significance(self) -> list[str]:
        return [
            f"A difference in {self.metric} is called significant by a test only: Student's t of the difference, in "
            "units of an error of two parts. One is what other seeds would have made of both rows; so that three seeds "
            "are enough, how much seeds vary is estimated from all students of the table together, each training "
            "counting once, and a row that varies more keeps its own variance; students of one training are compared "
            "seed by seed. The other is what other sentences would have made of the difference, from "
            f"{self.replicates:,} resamples of sentences, the same ones for both rows. A test needs {self.seeds} seeds "
            "of each row, and statistics of their sentences. The teacher is no student and is not tested.",
            f"Significant is p of at most {self.alpha:g} after Holm's correction: for all rows that are set against "
            "the plain student, and apart from that for all pairs of rows of a table. Rows with a letter in common are "
            "not significantly different, which is no proof that they are equal.",
            f"An interval of a difference comes from the same error, is to hold the true one in {100 * self.level:g} % "
            "of cases, and is not corrected for the number of rows.",
            f"Two rows by themselves (python -m bench compare) are tested by {self.randomisations:,} trials that deal "
            "their outputs out anew, sentence by sentence, and by their own seeds only: with few, it finds less.",
            "A row's rank is one more than the number of rows that are significantly better by the tests of all pairs; "
            "of rank 1 are those that no row is significantly better than. Ties are not transitive: two rows that "
            "differ may share a rank, and two that cannot be told apart may have different ones. Within a rank, the "
            "order by mean is no difference.",
            "The plain student is ranked as the methods are. The teacher is no student: it has no rank and lowers no "
            "other row's. Rows that are not placed or cannot be tested have none, and there are ranks only where two "
            "students or more were tested.",
            "By convention nothing is tested or ranked in a table where no student reaches "
            f"{self.floor:g} {self.metric}: outputs that translate nothing can be told apart, which would pass for a "
            "finding about methods.",
        ]

    def _speed(self) -> list[str]:
        return [
            "Speed is that of the first finished seed, measured on each engine alone on the machine, for all rows in "
            "one go; only such speeds stand in one table. A machine's own speed wanders, so that all rows are measured "
            "in turn, round after round, there and back. In each round passes over the beginning of dev text are "
            "repeated after a warm-up, with tokenising inside the clock and loading outside. The median of all passes "
            f"counts; where the rounds' own medians differ by more than {100 * self.spread:g} % of it, it is marked, "
            "and so is a device that others used meanwhile.",
        ]

    def _costs(self) -> list[str]:
        return [
            "Costs are device time: wall time, times the devices that worked together. The first of three totals is "
            "the training of the student alone. The second adds what its method needed of the teacher: its passes "
            "during the training, its run over the text where signals are cached, or the decoding of the corpus. The "
            "third adds the teacher's own training. What several rows of a table rest on, such as a teacher or a run "
            "that delivers several students, is divided by their number, each seed counted apart; so are the trials "
            "that all seeds of a row share. In the charts each student of such a run stands at what the whole of it "
            "took.",
            "Tokenizer, encoding, the trials behind the settings, and evaluation are in the ledger on a row's page and "
            "in its total of everything. What was lost when a process was killed, and what measuring speed took, is "
            "shown and charged to nothing, as is the counting of operations; but in a training one update in a hundred "
            "and the first two of each stage are counted as they are made, and take about three times as long.",
            "Floating-point operations are counted by PyTorch on a sample and extended to the whole. Energy comes from "
            "hardware counters only; where there are none it is not measured. CO2e and money are shown only by factors "
            "that whoever builds the page has stated.",
        ]

    def limits(self) -> list[str]:
        """What the comparison does not tell, as sentences for the reader."""
        return [
            f"{self.seeds} seeds tell little: a test finds large differences only, and fewer the more rows a table "
            "has. Rows that share a rank may well differ, and more seeds would show it.",
            f"{self.metric} and chrF compare strings with one reference or a few. They do not tell which translation a "
            "reader would prefer.",
            "A recipe that all methods share suits some of them better than the one that they were published with. "
            "Figures of another recipe, such as those of the papers, cannot be compared with these.",
            "A budget that ends while students still learn compares how fast methods learn, not how far they get; a "
            "table says where that is so. It is hardest on a method whose training has several stages, as AIO-KD's "
            "has: they share the budget, and each warms up anew. And it favours the teacher's translations where they "
            "are shorter than the references: as many target tokens are more sentences.",
            "Settings are the best of few trials, drawn from ranges that whoever wrote the method chose.",
            "The embedded data set is a generated language. It shows how methods compare in small, not how well they "
            "would translate.",
            "Times and speeds are those of one machine and one version of its software. A table shows the times of the "
            "machine that most of its rows come from, and the speeds of one go; those of other machines stand on the "
            "rows' own pages.",
            "Tests assume that the luck of seeds is about equally large in all rows. Where a row's seeds vary much "
            "more, it is said to differ, and its interval misses, somewhat more often than the rules promise.",
            "A row's status tells who vouches for it. What is self-reported was checked for consistency, not measured "
            "again. Others have scored the outputs of a re-scored row, and run the command of a re-run one; that ends "
            "when the row's outputs or seeds change.",
        ]


RULES = Ruleset()
"""The rules in force."""
