"""Align-to-Distill: attention divergences against worked values, and the released and the clean form of the loss."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.losses import soft_cross_entropy
from bench.method import PAD, Batch, Runner, total
from bench.nmt.batch import EOS
from bench.toy import STUDENT, TEACHER, TRAINING, VOCABULARY, Toy, toy_batch, toy_corpora, toy_pairs, toy_trainer
from methods.a2d import SMALLEST, Alignment, AlignToDistill, attention_divergence
from methods.baseline import Baseline

T = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]])
S = torch.tensor([[[[0.6, 0.4], [0.3, 0.7]]]])
CLEAN = {"mask_pads": True, "align_reduction": "mean_per_map"}
NORMS = ("flat_softmax", "row_softmax", "row_prob")


def in_logs(maps: Tensor) -> Tensor:
    return maps.clamp_min(SMALLEST).log()


def alignment(toy: Toy) -> Alignment:
    assert isinstance(toy.modules, Alignment)
    return toy.modules


def padded(batch: Batch, columns: int = 2) -> Batch:
    extend = nn.ConstantPad1d((0, columns), PAD)
    return Batch(extend(batch.source), extend(batch.prefix), extend(batch.target))


def attention_terms(toy: Toy, batch: Batch, **where: int) -> dict[str, float]:
    """The attention divergences of a batch, as training sees them."""
    terms = toy.method.loss(toy.step(batch, **where))
    return {name: term.weight * term.value.item() / batch.tokens for name, term in terms.items() if "attention" in name}


@pytest.mark.parametrize(
    ("teacher", "student", "norm", "expected"),
    [
        (T, S, "flat_softmax", 0.048565),
        (T, 2 * S, "flat_softmax", 0.060948),
        (T, S + 5, "flat_softmax", 0.048565),
        (T, T, "flat_softmax", 0.0),
        (T, S, "row_softmax", 0.089592),
        (in_logs(T), in_logs(S), "row_prob", 0.598002),
    ],
)
def test_divergence_of_a_worked_map(teacher: Tensor, student: Tensor, norm, expected: float) -> None:
    assert attention_divergence(teacher, student, norm).item() == pytest.approx(expected, abs=1e-6)


def test_the_mean_per_map_is_over_sentences_maps_and_rows() -> None:
    several = [maps.expand(3, 4, 2, 2) for maps in (T, S)]
    assert attention_divergence(*several, "flat_softmax", "mean_per_map").item() == pytest.approx(0.048565, abs=1e-6)
    assert attention_divergence(*several, "flat_softmax", "sum").item() == pytest.approx(12 * 0.048565, abs=1e-5)
    rows = attention_divergence(*map(in_logs, several), "row_prob", "mean_per_map")
    assert rows.item() == pytest.approx(0.299001, abs=1e-6)


@pytest.mark.parametrize(("size", "flat"), [(10, 0.073404), (20, 0.042739), (30, 0.030005)])
def test_a_diagonal_teacher_and_a_uniform_student(size: int, flat: float) -> None:
    diagonal, uniform = torch.eye(size)[None, None], torch.full((1, 1, size, size), 1 / size)
    assert attention_divergence(diagonal, uniform, "flat_softmax").item() == pytest.approx(flat, abs=1e-6)
    rows = attention_divergence(in_logs(diagonal), in_logs(uniform), "row_prob")
    assert rows.item() == pytest.approx(size * math.log(size), rel=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("reduction", ["sum", "mean_per_map"])
def test_cells_left_out_might_as_well_not_be_there(norm, reduction) -> None:
    teacher, student = (torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    cells = torch.zeros(1, 4, 5, dtype=torch.bool)
    cells[:, :3, :4] = True
    small = attention_divergence(teacher[:, :, :3, :4], student[:, :, :3, :4], norm, reduction)
    assert attention_divergence(teacher, student, norm, reduction, cells).item() == pytest.approx(
        small.item(), rel=1e-5
    )


def test_the_alignment_has_as_many_outputs_as_the_teacher_has_heads() -> None:
    parts = alignment(Toy.of(AlignToDistill())).student
    shapes = {kind: (conv.in_channels, conv.out_channels) for kind, conv in parts.items()}
    ours, theirs = STUDENT.heads * STUDENT.encoder_layers, TEACHER.heads * TEACHER.encoder_layers
    assert shapes == dict.fromkeys(("encoder", "self", "cross"), (ours, theirs))


@pytest.mark.parametrize(
    ("decoder_maps", "weights"),
    [
        ("both", {"attention_encoder": 2.0, "attention_self": 1.0, "attention_cross": 1.0}),
        ("self", {"attention_encoder": 2.0, "attention_self": 2.0}),
        ("cross", {"attention_encoder": 2.0, "attention_cross": 2.0}),
        ("none", {"attention_encoder": 2.0}),
    ],
)
def test_each_decoder_half_weighs_half_only_beside_the_other(decoder_maps: str, weights: dict) -> None:
    toy = Toy.of(AlignToDistill({"decoder_maps": decoder_maps, "beta": 2.0}))
    terms = toy.method.loss(toy.step(toy_batch()))
    assert {name: term.weight for name, term in terms.items() if "attention" in name} == weights


@pytest.mark.parametrize(("epoch", "expected"), [(1, 1.0), (2, 0.9), (5, 0.6561), (10, 0.3874), (20, 0.1351)])
def test_attention_decays_by_epochs(epoch: int, expected: float) -> None:
    toy = Toy.of(AlignToDistill())
    weight = toy.method.loss(toy.step(toy_batch(), epoch=epoch, update=7))["attention_encoder"].weight
    assert weight == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("update", "expected"), [(1, 1.0), (51, 0.9**0.5), (101, 0.9), (201, 0.81)])
def test_attention_can_decay_by_updates(update: int, expected: float) -> None:
    toy = Toy.of(AlignToDistill({"decay_updates": 100}))
    weight = toy.method.loss(toy.step(toy_batch(), epoch=30, update=update))["attention_encoder"].weight
    assert weight == pytest.approx(expected)


def _response(toy: Toy, batch: Batch) -> float:
    """(1 - alpha) * CE + alpha * soft CE at alpha = 0.5, summed over tokens."""
    assert toy.teacher is not None
    student, teacher = toy.student.forward(batch).log_probabilities, toy.teacher.forward(batch).log_probabilities
    return (0.5 * toy.step(batch).positions.cross_entropy(student) + 0.5 * soft_cross_entropy(teacher, student)).item()


def test_the_released_loss_is_a_mean_over_all_positions_and_a_sum_over_maps() -> None:
    batch, toy = padded(toy_batch()), Toy.of(AlignToDistill())
    assert toy.teacher is not None
    student, teacher = (
        runner.forward(batch, attention=("encoder", "self", "cross")) for runner in (toy.student, toy.teacher)
    )
    maps = {
        "encoder": (teacher.encoded.attention, student.encoded.attention),
        "self": (teacher.decoded.self_attention, student.decoded.self_attention),
        "cross": (teacher.decoded.cross_attention, student.decoded.cross_attention),
    }
    d = {
        kind: attention_divergence(theirs, alignment(toy).student[kind](ours), "flat_softmax").item()
        for kind, (theirs, ours) in maps.items()
    }
    expected = _response(toy, batch) / batch.target.numel() + d["encoder"] + 0.5 * (d["self"] + d["cross"])
    assert toy.loss(batch).item() / batch.tokens == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_the_clean_form_ignores_padding_and_the_size_of_the_batch(norm: str) -> None:
    batch, toy = toy_batch(), Toy.of(AlignToDistill(CLEAN | {"align_norm": norm}))
    once = toy.loss(batch).item() / batch.tokens
    wide, twice = padded(batch), Batch.of(*(2 * side for side in toy_pairs(8)))
    assert toy.method.padding_invariant()
    assert toy.loss(wide).item() / wide.tokens == pytest.approx(once, rel=1e-5)
    assert toy.loss(twice).item() / twice.tokens == pytest.approx(once, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "divisible"),
    [
        ({}, False),
        ({"mask_pads": True}, False),  # each part's sum over sentences would count by the part's tokens only
        ({"mask_pads": True, "beta": 0.0}, True),
        (CLEAN, True),
    ],
)
def test_a_batch_is_cut_only_where_its_loss_is_that_of_its_parts(settings: dict[str, Any], divisible: bool) -> None:
    toy = Toy.of(AlignToDistill(settings))
    assert toy.method.divisible() is divisible
    sources, targets = toy_pairs(8)
    # Two halves alike, so that a mean over sentences is the same in each.
    batch, half = Batch.of(2 * sources[:4], 2 * targets[:4]), Batch.of(sources[:4], targets[:4])
    agree = toy.loss(batch).item() == pytest.approx(2 * toy.loss(half).item(), rel=1e-5)
    assert agree is divisible


def test_the_released_form_depends_on_both() -> None:
    batch, toy = toy_batch(), Toy.of(AlignToDistill())
    twice = Batch.of(*(2 * side for side in toy_pairs(8)))
    assert not toy.method.padding_invariant()
    assert toy.loss(padded(batch)).item() != pytest.approx(toy.loss(batch).item(), rel=1e-3)
    once = attention_terms(toy, batch)
    assert attention_terms(toy, twice) == pytest.approx({name: 2 * value for name, value in once.items()}, rel=1e-4)


def test_masked_maps_of_a_batch_are_those_of_its_sentences_alone() -> None:
    toy = Toy.of(AlignToDistill({"mask_pads": True}))
    sources, targets = toy_pairs(4)
    alone = [attention_terms(toy, Batch.of([one], [other])) for one, other in zip(sources, targets, strict=True)]
    together = attention_terms(toy, Batch.of(sources, targets))
    for name, value in together.items():
        assert value == pytest.approx(sum(terms[name] for terms in alone), rel=1e-4)


def test_gradients_reach_alignment_and_student_attention_but_no_inert_bias_and_no_teacher() -> None:
    toy, batch = Toy.of(AlignToDistill()), toy_batch()
    terms = toy.method.loss(toy.step(batch))
    total({name: term for name, term in terms.items() if "attention" in name}).backward()
    assert toy.teacher is not None
    for conv in alignment(toy).student.values():
        assert bool(conv.weight.grad.any())
        assert conv.bias.grad.abs().max().item() < 1e-4 * conv.weight.grad.abs().max().item()
    for layer in (toy.student.model.encoder[0], toy.student.model.decoder[0]):
        query_key = layer.attention.query_key_value.weight.grad[: 2 * STUDENT.width]
        assert bool(query_key.any())
    assert all(parameter.grad is None for parameter in toy.teacher.model.parameters())


@pytest.mark.parametrize("norm", NORMS)
def test_the_teacher_itself_through_an_identity_has_nothing_to_align(norm: str) -> None:
    toy = Toy.of(AlignToDistill({"align_norm": norm}))
    assert toy.teacher is not None
    convs = Alignment(("encoder", "self", "cross"), TEACHER, TEACHER, mix_teacher=False)
    for conv in convs.student.values():
        nn.init.dirac_(conv.weight)
        nn.init.zeros_(conv.bias)
    twin = Toy(toy.method, Runner(copy.deepcopy(toy.teacher.model)), toy.teacher, convs)
    assert list(attention_terms(twin, toy_batch()).values()) == pytest.approx([0.0] * 3, abs=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_a_frozen_random_mixture_of_the_teachers_heads_is_another_target(norm: str) -> None:
    batch = toy_batch()
    mixed = Toy.of(AlignToDistill({"align_norm": norm, "teacher_conv": "frozen_random"}))
    unmixed = Alignment(("encoder", "self", "cross"), STUDENT, TEACHER, mix_teacher=False)
    unmixed.student.load_state_dict(alignment(mixed).student.state_dict())
    plain = Toy(mixed.method, mixed.student, mixed.teacher, unmixed)
    assert attention_terms(plain, batch) != pytest.approx(attention_terms(mixed, batch), rel=1e-3)


def test_the_frozen_mixture_stays_as_it_was_drawn_while_the_alignment_is_trained(tmp_path: Path) -> None:
    method, config = AlignToDistill({"teacher_conv": "frozen_random"}), TRAINING.model_copy(update={"evaluations": 1})
    trainer = toy_trainer(
        method, toy_corpora(tmp_path), tmp_path / "run", config.model_copy(update={"target_tokens": 300})
    )
    drawn = copy.deepcopy(trainer.modules.state_dict())
    assert len(drawn) == 12
    trainer.train()
    changed = {name for name, value in trainer.modules.state_dict().items() if not torch.equal(value, drawn[name])}
    assert {f"student.{kind}.weight" for kind in ("encoder", "self", "cross")} <= changed
    assert not any(name.startswith("teacher.") for name in changed)


def test_without_beta_it_is_response_distillation_and_has_no_modules() -> None:
    batch, toy = toy_batch(), Toy.of(AlignToDistill({"beta": 0, "mask_pads": True}))
    assert toy.modules is None
    assert toy.loss(batch).item() == pytest.approx(_response(toy, batch), rel=1e-5)


def test_switched_off_it_is_plain_training() -> None:
    batch = padded(toy_batch())
    assert torch.equal(Toy.of(AlignToDistill(AlignToDistill.plain)).loss(batch), Toy.of(Baseline()).loss(batch))


def test_at_the_documented_beta_the_clean_form_weighs_what_the_release_adds_up() -> None:
    """Sentences of one length need no mask, so that the forms differ by the number of maps and sentences alone."""
    maps, words = TEACHER.heads * TEACHER.encoder_layers, [4, 5, 6, 7, EOS]
    batch = Batch.of([words] * 8, [words] * 8)
    released = attention_terms(Toy.of(AlignToDistill({"decoder_maps": "cross"})), batch)
    clean = attention_terms(Toy.of(AlignToDistill(CLEAN | {"decoder_maps": "cross", "beta": maps * 8})), batch)
    assert clean == pytest.approx(released, rel=1e-4)


def test_temperatures_divide_half_precision_logits_in_full_precision() -> None:
    settings = {"beta": 0, "alpha": 1, "mask_pads": True, "teacher_temperature": 3.0, "student_temperature": 7.0}
    batch, toy = toy_batch(), Toy.of(AlignToDistill(settings))
    assert toy.teacher is not None
    for runner in (toy.student, toy.teacher):
        runner.model.embedding.weight.data.mul_(20)
        runner._autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    student, teacher = toy.student.forward(batch).logits, toy.teacher.forward(batch).logits
    expected = soft_cross_entropy((teacher.float() / 3).log_softmax(-1), (student.float() / 7).log_softmax(-1))
    assert student.dtype == teacher.dtype == torch.bfloat16
    assert toy.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_temperatures_divide_the_logits_of_their_side() -> None:
    settings = {"beta": 0, "alpha": 1, "mask_pads": True, "teacher_temperature": 2.0, "student_temperature": 4.0}
    batch, toy = toy_batch(), Toy.of(AlignToDistill(settings))
    assert toy.teacher is not None
    student, teacher = toy.student.forward(batch).log_probabilities, toy.teacher.forward(batch).log_probabilities
    expected = -((teacher / 2).softmax(-1) * (student / 4).log_softmax(-1)).sum()
    assert student.size(-1) == VOCABULARY
    assert toy.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)
