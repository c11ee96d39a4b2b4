"""AIO-KD: its combination, detaching and mutual learning against worked values, and the network it trains."""

import copy
import math
from collections import Counter
from unittest.mock import patch

import pytest
import torch

from bench.config import ModelConfig
from bench.errors import UsageError
from bench.losses import divergence
from bench.method import Depth, Runner, Term, TrainingText, total
from bench.toy import STUDENT, TEACHER, VOCABULARY, Toy, toy_batch
from methods.aio_kd import AllInOne, candidates, combine, from_teacher, mutual_learning

SIX = TEACHER.model_copy(update={"encoder_layers": 6, "decoder_layers": 6})
GRADIENT = [0.098938, -0.093885, -0.005053]


class Given:
    """Logits to learn, and the log-probabilities that they make."""

    def __init__(self, *probabilities: float) -> None:
        self.logits = torch.tensor([probabilities]).log().requires_grad_()
        self.log_p = self.logits.log_softmax(dim=-1)

    @property
    def gradient(self) -> list[float] | None:
        return None if self.logits.grad is None else self.logits.grad[0].tolist()


def given() -> tuple[Given, Given]:
    """The worked pair."""
    return Given(0.5, 0.3, 0.2), Given(0.4, 0.4, 0.2)


def only_two(**changed) -> ModelConfig:
    return TEACHER.model_copy(update={"encoder_layers": 2, "decoder_layers": 2} | changed)


def test_the_candidates_are_the_truncations_whose_decoder_is_not_deeper() -> None:
    found = candidates(SIX, 2)
    assert len(found) == len(set(found)) == 15
    assert all(2 <= depth.decoder <= depth.encoder <= 6 for depth in found)
    assert {Depth(6, 6), Depth(2, 2)} <= set(found)
    assert candidates(only_two(), 1) == (Depth(1, 1), Depth(2, 1), Depth(2, 2))


def test_candidates_stay_within_a_network_of_uneven_depths() -> None:
    assert candidates(only_two(decoder_layers=4), 2) == (Depth(2, 2),)
    assert candidates(only_two(encoder_layers=4), 2) == (Depth(2, 2), Depth(3, 2), Depth(4, 2))


@pytest.mark.parametrize("network", [only_two(), only_two(encoder_layers=6), only_two(decoder_layers=6)])
def test_a_network_too_shallow_for_min_depth_is_a_usage_error(network: ModelConfig) -> None:
    method = AllInOne({"min_depth": 3})
    with pytest.raises(UsageError, match="min_depth=3"):
        method.architecture(STUDENT, network)
    with pytest.raises(UsageError, match="min_depth=3"):
        method.deliveries(STUDENT, network)


@pytest.mark.parametrize(("encoder", "decoder"), [(2, 3), (1, 1), (4, 2)])
def test_a_student_that_would_not_be_delivered_is_a_usage_error(encoder: int, decoder: int) -> None:
    student = STUDENT.model_copy(update={"encoder_layers": encoder, "decoder_layers": decoder})
    for ask in (AllInOne().architecture, AllInOne().deliveries):
        with pytest.raises(
            UsageError, match=f"student's depth {encoder}-{decoder} is not among .* 2-2, 3-2, 3-3: lower"
        ):
            ask(student, TEACHER)
    if (encoder, decoder) == (1, 1):
        assert AllInOne({"min_depth": 1}).architecture(student, TEACHER).depth == TEACHER.depth


def test_the_worked_combination_with_and_without_mutual_learning() -> None:
    values = torch.tensor(2.0), torch.tensor([2.1, 2.4]), torch.tensor([0.3, 0.5])
    assert total(combine(*values, None, alpha=5.5, beta=0.5)).item() == pytest.approx(8.7, abs=1e-5)
    assert total(combine(*values, torch.tensor(0.2), alpha=5.5, beta=0.5)).item() == pytest.approx(8.8, abs=1e-5)


@pytest.mark.parametrize(("students", "expected"), [(2, 1.0), (3, 1 / 3), (4, 1 / 6)])
def test_mutual_learning_is_a_mean_over_pairs(students: int, expected: float) -> None:
    each = torch.ones(students)
    terms = combine(torch.tensor(1.0), each, each, torch.tensor(1.0), alpha=1.0, beta=1.0)
    assert terms["mutual"].weight == pytest.approx(expected)
    assert terms["kd"].weight == pytest.approx(1 / students)


@pytest.mark.parametrize(
    ("ratio", "eta", "flows"),
    [(1.05, 1.1, True), (1.2, 1.1, False), (1.1, 1.1, False), (0.5, 0.0, False), (9.9, math.inf, True)],
)
def test_the_teachers_gradient_is_detached_from_the_ratio_on(ratio: float, eta: float, flows: bool) -> None:
    teacher, student = given()
    loss = from_teacher(teacher.log_p, student.log_p, ratio, eta)
    loss.backward()
    assert loss.item() == pytest.approx(0.025267, abs=1e-6)
    assert student.gradient == pytest.approx([-0.1, 0.1, 0.0], abs=1e-6)
    assert teacher.gradient == (pytest.approx(GRADIENT, abs=1e-6) if flows else None)


@pytest.mark.parametrize(("losses", "senior"), [((2.1, 2.4), 0), ((2.4, 2.1), 1), ((2.1, 2.1), 0)])
def test_the_senior_is_the_better_student_or_the_first(losses: tuple[float, float], senior: int) -> None:
    pair = [each.log_p for each in given()]
    expected = divergence(pair[senior], pair[1 - senior]).item()
    assert mutual_learning(pair, losses, "no_weight", 1.1).item() == pytest.approx(expected)


def test_in_the_released_mode_the_senior_is_pulled_too() -> None:
    senior, junior = given()
    mutual_learning((senior.log_p, junior.log_p), (1.0, 5.0), "no_weight", 1.1).backward()
    assert senior.gradient == pytest.approx(GRADIENT, abs=1e-6)
    assert junior.gradient == pytest.approx([-0.1, 0.1, 0.0], abs=1e-6)


@pytest.mark.parametrize(("losses", "flows"), [((1.0, 1.05), True), ((1.0, 1.1), False), ((1.0, 3.0), False)])
def test_in_the_detaching_mode_a_far_senior_is_not_pulled(losses: tuple[float, float], flows: bool) -> None:
    senior, junior = given()
    mutual_learning((senior.log_p, junior.log_p), losses, "detaching", 1.1).backward()
    assert senior.gradient == (pytest.approx(GRADIENT, abs=1e-6) if flows else None)
    assert junior.gradient == pytest.approx([-0.1, 0.1, 0.0], abs=1e-6)


def test_the_full_mode_is_the_mean_of_both_directions_whoever_is_senior() -> None:
    pair = [each.log_p for each in given()]
    for losses in ((1.0, 2.0), (2.0, 1.0)):
        mean = mutual_learning(pair, losses, "full", 1.1)
        assert mean.item() == pytest.approx((0.025267 + 0.025815) / 2, abs=1e-6)


def test_every_pair_of_three_students_learns_mutually() -> None:
    a, b, c = (each.log_p for each in (*given(), Given(0.1, 0.1, 0.8)))
    expected = divergence(b, a) + divergence(c, a) + divergence(c, b)
    assert mutual_learning((a, b, c), (3.0, 2.0, 1.0), "no_weight", 1.1).item() == pytest.approx(expected.item())


def test_the_network_has_the_students_widths_and_the_teachers_depth() -> None:
    network = AllInOne().architecture(STUDENT, TEACHER)
    assert network.depth == TEACHER.depth
    assert network.at_depth(STUDENT.depth) == STUDENT


def test_every_candidate_is_delivered_under_its_depth() -> None:
    delivered = {delivery.name: delivery.depth for delivery in AllInOne().deliveries(STUDENT, TEACHER)}
    assert delivered == {"2-2": Depth(2, 2), "3-2": Depth(3, 2), "3-3": Depth(3, 3)}


def test_two_stages_share_the_budget_and_only_the_last_learns_mutually() -> None:
    toy, batch = Toy.of(AllInOne({"data": "seqkd"})), toy_batch()
    assert [stage.share for stage in toy.method.stages()] == [0.5, 0.5]
    assert {stage.text for stage in toy.method.stages()} == {TrainingText(origin="teacher")}
    assert "mutual" not in toy.method.loss(toy.step(batch, stage=0))
    assert "mutual" in toy.method.loss(toy.step(batch, stage=1))


def test_without_a_first_stage_mutual_learning_starts_at_once() -> None:
    toy = Toy.of(AllInOne({"first_stage_share": 0}))
    assert [stage.share for stage in toy.method.stages()] == [1.0]
    assert "mutual" in toy.method.loss(toy.step(toy_batch(), stage=0))


def test_stage_two_without_weight_is_stage_one() -> None:
    toy, batch = Toy.of(AllInOne({"beta": 0})), toy_batch()
    assert toy.loss(batch, stage=1).item() == pytest.approx(toy.loss(batch, stage=0).item(), rel=1e-6)


def test_a_single_student_has_nobody_to_learn_mutually_with() -> None:
    toy = Toy.of(AllInOne({"students": 1}))
    terms = toy.method.loss(toy.step(toy_batch(), stage=1))
    assert set(terms) == {"teacher_nll", "student_nll", "kd"}
    assert bool(total(terms).isfinite())


def test_the_loss_sums_cross_entropies_and_averages_divergences() -> None:
    """Without dropout, and with one candidate only, every pass is the same: the divergences are zero."""
    method, batch = AllInOne(), toy_batch()
    toy = Toy.of(method)
    shallow = Toy(method, Runner(toy.student.model.truncated(Depth(2, 2)).eval()), None, None)
    step = shallow.step(batch, stage=1)
    ce = step.positions.cross_entropy(shallow.student.forward(batch).log_probabilities).item()
    terms: dict[str, Term] = method.loss(step)
    assert terms["teacher_nll"].value.item() == pytest.approx(ce, rel=1e-6)
    assert terms["student_nll"].value.item() == pytest.approx(2 * ce, rel=1e-6)
    assert terms["kd"].value.item() == pytest.approx(0.0, abs=1e-4)
    assert terms["mutual"].value.item() == pytest.approx(0.0, abs=1e-4)


def test_draws_are_uniform_with_replacement_and_repeat_with_their_seed() -> None:
    toy, batch = Toy.of(AllInOne()), toy_batch(1)
    forward, drawn = toy.student.forward, []

    def record(batch, *, depth=None, **options):
        drawn.append(depth)
        return forward(batch, depth=depth, **options)

    toy.student.forward = record
    for seed in (*range(45), *range(45)):
        toy.loss(batch, seed=seed)
    pairs = list(zip(drawn[1::3], drawn[2::3], strict=True))
    assert pairs[:45] == pairs[45:]
    counts = Counter(depth for pair in pairs[:45] for depth in pair)
    assert set(counts) == set(candidates(toy.student.config, 2))
    assert min(counts.values()) > 15
    assert any(one == other for one, other in pairs)


def test_the_encoder_runs_anew_for_every_student() -> None:
    toy, depths = Toy.of(AllInOne({"students": 3})), []
    encode = toy.student.model.encode

    def record(source, *, depth=None, **options):
        depths.append(depth)
        return encode(source, depth=depth, **options)

    toy.student.model.encode = record
    toy.loss(toy_batch())
    assert [depth is None for depth in depths] == [True, False, False, False]


def test_the_whole_network_as_a_student_equals_the_teacher_without_dropout() -> None:
    toy, batch = Toy.of(AllInOne(), dropout=0.3), toy_batch()
    toy.student.model.eval()
    whole, same = (toy.student.forward(batch, depth=depth).log_probabilities for depth in (None, TEACHER.depth))
    assert from_teacher(whole, same, 1.0, 1.1).item() == pytest.approx(0.0, abs=1e-6)


def test_a_truncation_does_not_see_the_layers_beyond_it_and_is_what_a_slice_computes() -> None:
    toy, batch, depth = Toy.of(AllInOne()), toy_batch(), Depth(2, 2)
    before = toy.student.forward(batch, depth=depth).logits
    sliced = Runner(toy.student.model.truncated(depth)).forward(batch).logits
    changed = copy.deepcopy(toy.student.model)
    for layers in (changed.encoder, changed.decoder):
        for parameter in layers[2].parameters():
            parameter.data.normal_(generator=torch.Generator().manual_seed(1))
    assert torch.equal(Runner(changed).forward(batch, depth=depth).logits, before)
    assert torch.allclose(sliced, before, atol=1e-6)
    assert before.size(-1) == VOCABULARY


@pytest.mark.parametrize(("eta", "flows"), [(0.0, False), (100.0, True)])
def test_the_divergence_reaches_the_teachers_pass_only_below_eta(eta: float, flows: bool) -> None:
    """On the teacher's logits themselves, since its weights are the students' too."""
    toy, batch = Toy.of(AllInOne({"eta": eta, "first_stage_share": 0.5})), toy_batch()
    forward, passes = toy.student.forward, []

    def keep(batch, **options):
        passes.append(forward(batch, **options))
        passes[-1].logits.retain_grad()
        return passes[-1]

    toy.student.forward = keep
    step = toy.step(batch)
    total(toy.method.loss(step)).backward()
    logits = passes[0].logits.detach().requires_grad_()
    step.positions.cross_entropy(logits.log_softmax(-1)).backward()
    assert torch.allclose(passes[0].logits.grad, logits.grad, atol=1e-5) != flows
    assert all(other.logits.grad is not None for other in passes[1:])


def test_a_shared_encoder_runs_once_and_without_dropout_changes_nothing() -> None:
    batch, losses, gradients, calls = toy_batch(), [], [], []
    for share in (False, True):
        toy = Toy.of(AllInOne({"share_encoder": share, "min_depth": 1}), dropout=0.0)
        with patch.object(toy.student.model, "encode", wraps=toy.student.model.encode) as encode:
            loss = toy.loss(batch)
        loss.backward()
        calls.append(encode.call_count)
        losses.append(loss.item())
        gradients.append([p.grad for p in toy.student.model.parameters() if p.grad is not None])
    assert calls == [3, 1]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
