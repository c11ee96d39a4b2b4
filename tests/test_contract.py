"""The conformance suite: every built-in method passes it, and each breach of the contract is caught and explained."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from bench.config import Depth
from bench.contract import CHECKS, check_method
from bench.losses import divergence
from bench.method import Choice, Delivery, Method, Range, Stage, TeacherText, TeacherUse, Term, setting
from bench.registry import load_methods

CHECK = {check.name: check for check in CHECKS}


@pytest.mark.parametrize("check", CHECKS, ids=str)
@pytest.mark.parametrize("name", sorted(load_methods().found))
def test_built_in_methods_keep_the_contract(name: str, check) -> None:
    result = check(load_methods().get(name))
    assert result.passed or (result.skipped and check.name in ("padding", "plain")), result.detail


class Good(Method):
    """What the broken methods below are broken from."""

    name = "good"
    title = "Good"
    teacher = TeacherUse.FROZEN
    plain = {"weight": 0.0}

    class Settings(Method.Settings):
        weight: float = setting(0.5, "Weight of the teacher's term.", ge=0, le=1, search=Range(0.1, 0.9))

    def loss(self, step):
        student, teacher = step.student.forward(step.batch), step.teacher.forward(step.batch)
        return {
            "nll": Term(step.positions.cross_entropy(student.log_probabilities), 1 - self.settings.weight),
            "kd": Term(divergence(teacher.log_probabilities, student.log_probabilities), self.settings.weight),
        }


def test_the_suite_reports_every_check_as_it_goes_and_leaves_the_random_state_alone() -> None:
    seen: list[Any] = []
    torch.manual_seed(5)
    state, start = torch.get_rng_state(), time.perf_counter()
    results = check_method(Good, echo=seen.append)
    assert time.perf_counter() - start < 30
    assert results == seen
    assert [result.name for result in results] == [check.name for check in CHECKS]
    assert all(result.passed for result in results)
    assert torch.equal(torch.get_rng_state(), state)


class ChangesBatch(Good):
    def loss(self, step):
        step.batch.source[0, 0] = 5
        return super().loss(step)


class ChangesTeacher(Good):
    def loss(self, step):
        step.teacher.model.embedding.weight.data.mul_(0.9)
        return super().loss(step)


class ChangesStudent(Good):
    def loss(self, step):
        step.student.model.decoder[0].inner.bias.data.add_(1.0)
        return super().loss(step)


class TeacherInTraining(Good):
    def loss(self, step):
        step.teacher.model.train()
        return super().loss(step)


class ChangesSettings(Good):
    def loss(self, step):
        self.settings = self.settings.model_copy(update={"weight": self.settings.weight / 2})
        return super().loss(step)


class NotFinite(Good):
    def loss(self, step):
        return super().loss(step) | {"entropy": Term(torch.zeros(()).log() * 0)}


class NotScalar(Good):
    def loss(self, step):
        return super().loss(step) | {"each": Term(torch.zeros(3))}


class Empty(Good):
    def loss(self, step):
        return {}


class Random(Good):
    def loss(self, step):
        return super().loss(step) | {"noise": Term(torch.tensor(random.SystemRandom().random()))}


class CountsPadding(Good):
    def loss(self, step):
        return {name: Term(t.value / step.batch.target.numel(), t.weight) for name, t in super().loss(step).items()}


class LeaksIntoTeacher(Good):
    def loss(self, step):
        model, batch = step.teacher.model.requires_grad_(True), step.batch
        teacher = model.project(batch.pack(model.decode(batch.prefix, model.encode(batch.source)).states))
        return {"kd": Term(divergence(teacher, step.student.forward(batch).log_probabilities))}


class NoGradient(Good):
    def loss(self, step):
        return {name: Term(term.value.detach(), term.weight) for name, term in super().loss(step).items()}


class OnlyTeacherGradient(Good):
    def modules(self, student, teacher):
        return nn.Linear(1, 1)

    def loss(self, step):
        return {"own": Term(step.modules.weight.sum() + step.modules.bias.sum())}


class UnusedModules(Good):
    def modules(self, student, teacher):
        return nn.Linear(2, 2)


class TwoStages(Good):
    """What the methods below break in their second stage only."""

    def stages(self):
        return (Stage(name="first", share=0.5), Stage(name="second", share=0.5))


class NoGradientLater(TwoStages):
    def loss(self, step):
        return {name: Term(t.value, t.weight * (step.stage == 0)) for name, t in super().loss(step).items()}


class InfiniteGradientLater(TwoStages):
    def loss(self, step):
        bias = step.student.model.decoder[0].outer.bias
        root = {"root": Term((bias - bias.detach()).abs().sum().sqrt())} if step.stage else {}
        return super().loss(step) | root


class LeaksIntoTeacherLater(TwoStages):
    def loss(self, step):
        return LeaksIntoTeacher.loss(self, step) if step.stage else super().loss(step)


class ChangesBatchLater(TwoStages):
    def loss(self, step):
        step.batch.source[0, 0] += step.stage
        return super().loss(step)


class InfiniteGradient(Good):
    def loss(self, step):
        bias = step.student.model.decoder[0].outer.bias
        return super().loss(step) | {"root": Term((bias - bias.detach()).abs().sum().sqrt())}


class WrongPlain(Good):
    plain = {"weight": 0.1}


class PlainValueOnly(Good):
    plain = {"weight": 0.0}

    def loss(self, step):
        nll = super().loss(step)["nll"].value
        return {"nll": Term(nll.detach() + 0.5 * (nll - nll.detach()))}


class UnknownPlain(Good):
    plain = {"wieght": 0.0}


class DefaultOutOfRange(Good):
    class Settings(Method.Settings):
        weight: float = setting(1.5, "Too large.", ge=0, le=1)


class DefaultOutsideSearch(Good):
    class Settings(Method.Settings):
        weight: float = setting(0.05, "Not searched.", ge=0, le=1, search=Range(0.1, 0.9))


class DefaultNotAmongChoices(Good):
    class Settings(Method.Settings):
        weight: float = setting(0.05, "Not searched.", search=Choice((0.1, 0.9)))


class SearchOutOfRules(Good):
    class Settings(Method.Settings):
        weight: float = setting(0.5, "Searched too far.", ge=0, le=1, search=Range(0.1, 1.1))


class SearchesItsText(Good):
    class Settings(TeacherText):
        data: str = setting("original", "The text.", search=Choice(("original", "seqkd")))


class SearchIsNoRange(Good):
    class Settings(Method.Settings):
        weight: float = setting(0.5, "A pair of numbers.", search=(0.0, 1.0))


class LooseSettings(Good):
    class Settings(BaseModel):
        weight: float = 0.5


class Undescribed(Good):
    class Settings(Method.Settings):
        weight: float = 0.5


class AnyName(Good):
    def __init__(self, settings=None):
        super().__init__({name: value for name, value in (settings or {}).items() if name == "weight"})


class NoTitle(Good):
    title = ""


class BadName(Good):
    name = "Not a name"


class TeacherByName(Good):
    teacher = "frozen"


class HalfTheBudget(Good):
    def stages(self):
        return (Stage(name="one", share=0.25), Stage(name="two", share=0.25))


class SameStageNames(Good):
    def stages(self):
        return (Stage(share=0.5), Stage(share=0.5))


class NoStage(Good):
    def stages(self):
        return ()


class DeliversTooMuch(Good):
    def deliveries(self, student, teacher):
        return (Delivery(name="deep", depth=Depth(9, 2)),)


class DeliversNothing(Good):
    def deliveries(self, student, teacher):
        return ()


class DeliversTwice(Good):
    def deliveries(self, student, teacher):
        return 2 * super().deliveries(student, teacher)


class LeavesModulesInStudent(Good):
    def modules(self, student, teacher):
        return nn.Linear(2, 2)

    def loss(self, step):
        step.student.model.alignment = step.modules
        return super().loss(step) | {"own": Term(step.modules(torch.ones(1, 2)).square().sum())}


class Ascends(Good):
    def loss(self, step):
        return {"nll": Term(super().loss(step)["nll"].value, -1.0)}


class GradientReversed(Good):
    def loss(self, step):
        nll = super().loss(step)["nll"].value
        return {"nll": Term(2 * nll.detach() - nll)}


class Explodes(Good):
    def loss(self, step):
        return super().loss(step) | ({"late": Term(torch.tensor(float("inf")))} if step.update > 5 else {})


class Remembers(Good):
    """The teacher's weight falls with the number of updates that this object has seen."""

    seen = 0

    def loss(self, step):
        self.seen += 1
        nll, kd = super().loss(step).values()
        return {"nll": nll, "kd": Term(kd.value, 1 / self.seen)}


class RemembersInPlace(Good):
    """The same, but kept where the trainer keeps it."""

    def modules(self, student, teacher):
        seen = nn.Module()
        seen.register_buffer("count", torch.zeros(()))
        return seen

    def loss(self, step):
        step.modules.count += 1
        nll, kd = super().loss(step).values()
        return {"nll": nll, "kd": Term(kd.value / step.modules.count)}


class Raises(Good):
    def loss(self, step):
        raise KeyError("no such thing")


BROKEN = [
    ("unchanged", ChangesBatch, "changes batch.source"),
    ("unchanged", ChangesTeacher, "changes the teacher's embedding.weight"),
    ("unchanged", ChangesStudent, "changes the student's decoder.0.inner.bias"),
    ("unchanged", TeacherInTraining, "changes the teacher's training mode"),
    ("unchanged", ChangesSettings, "changes the setting weight"),
    ("loss", NotFinite, "term 'entropy' is not finite"),
    ("loss", NotScalar, "term 'each' is not a Term with a scalar tensor"),
    ("loss", Empty, "at least one term"),
    ("loss", Random, "not deterministic: term 'noise'"),
    ("padding", CountsPadding, "padding changes term 'nll'"),
    ("gradients", LeaksIntoTeacher, "a gradient reaches the frozen teacher's embedding.weight"),
    ("gradients", NoGradient, "carries no gradient"),
    ("gradients", OnlyTeacherGradient, "no gradient reaches the student"),
    ("gradients", UnusedModules, "no gradient reaches the method's own weight, bias: no stage's loss uses it"),
    ("gradients", InfiniteGradient, "the gradient of the student's decoder.0.outer.bias is not finite"),
    ("gradients", NoGradientLater, "no gradient reaches the student in stage 'second'"),
    ("gradients", InfiniteGradientLater, "decoder.0.outer.bias is not finite in stage 'second'"),
    ("gradients", LeaksIntoTeacherLater, "the frozen teacher's embedding.weight in stage 'second'"),
    ("unchanged", ChangesBatchLater, "changes batch.source in stage 'second'"),
    ("plain", WrongPlain, "but plain training's"),
    ("plain", PlainValueOnly, "is not plain training's"),
    ("settings", UnknownPlain, "Did you mean 'weight'"),
    ("settings", DefaultOutOfRange, "a default breaks its own rule: weight"),
    ("settings", DefaultOutsideSearch, "lies outside its search range"),
    ("settings", DefaultNotAmongChoices, "not among the values searched"),
    ("settings", SearchOutOfRules, "1.1 is searched but not allowed"),
    ("settings", SearchesItsText, "'seqkd' is searched but changes the text"),
    ("settings", SearchIsNoRange, "search must be a Range or a Choice"),
    ("settings", LooseSettings, "Settings must extend Method.Settings"),
    ("settings", Undescribed, "setting weight has no description"),
    ("settings", AnyName, "accepts a name that it does not have"),
    ("identity", NoTitle, "title is missing"),
    ("identity", BadName, "lower-case identifier"),
    ("identity", TeacherByName, "must be a TeacherUse"),
    ("stages", HalfTheBudget, "do not sum to 1"),
    ("stages", SameStageNames, "two stages have the same name"),
    ("stages", NoStage, "one or more"),
    ("deliveries", DeliversTooMuch, "delivery 'deep': depth 9-2 does not lie within 2-2"),
    ("deliveries", DeliversNothing, "nothing is delivered"),
    ("deliveries", DeliversTwice, "two deliveries have the same name"),
    ("round_trip", LeavesModulesInStudent, "differs from a plain student by alignment.bias, alignment.weight"),
    ("training", Ascends, "the student does not learn"),
    ("training", GradientReversed, "the loss does not fall"),
    ("training", Explodes, "training fails: loss is not finite at update 6: late"),
    ("training", Remembers, "a training that was interrupted ends with another model."),
    ("loss", Raises, "KeyError: 'no such thing'"),
]


@pytest.mark.parametrize(("name", "method", "reason"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_method_is_caught_and_the_reason_is_one_sentence(name: str, method: type[Method], reason: str) -> None:
    result = CHECK[name](method)
    assert (result.passed, result.skipped) == (False, False)
    assert reason in result.detail
    assert "\n" not in result.detail


class ModulesInOneStage(TwoStages):
    def modules(self, student, teacher):
        return nn.Linear(2, 2)

    def loss(self, step):
        own = {"own": Term(step.modules(torch.ones(1, 2)).square().sum())} if step.stage else {}
        return super().loss(step) | own


@pytest.mark.parametrize(("name", "method"), [("gradients", ModulesInOneStage), ("training", RemembersInPlace)])
def test_what_the_contract_allows_is_not_held_against_a_method(name: str, method: type[Method]) -> None:
    result = CHECK[name](method)
    assert result.passed, result.detail


def test_an_error_of_the_method_is_shown_with_its_line() -> None:
    line = Path(__file__).read_text().splitlines().index('        raise KeyError("no such thing")') + 1
    assert CHECK["loss"](Raises).detail.endswith(f"test_contract.py, line {line})")


def test_a_declared_dependence_on_padding_is_not_held_against_a_method() -> None:
    class Declares(CountsPadding):
        plain = None

        def padding_invariant(self) -> bool:
            return False

    assert CHECK["padding"](Declares).skipped
    assert CHECK["plain"](Declares).skipped
    assert str(CHECK["plain"](Declares)).startswith("plain: skipped: ")
