"""Operations: formulas worked by hand, samples extended to the whole, and a count that changes nothing."""

import pytest
import torch
from torch import nn

from bench.config import ModelConfig, SearchConfig
from bench.measure.flops import TrainingFlops, counted, decoding_flops, formula_flops
from bench.nmt.batch import EOS
from bench.nmt.model import Transformer, multiplied_parameters, parameter_counts
from bench.nmt.search import translate_ids

SHAPE = ModelConfig(width=16, ffn=32, heads=2, encoder_layers=1, decoder_layers=1)


def product(n=3):
    return torch.ones(n, 5) @ torch.ones(5, 7)


def test_a_product_takes_two_operations_for_a_multiply_add():
    assert counted(product) == 2 * 3 * 5 * 7


def test_a_linear_layer_takes_the_formulas_six_operations_for_a_parameter_and_token():
    layer = nn.Linear(8, 4, bias=False)
    source = torch.ones(10, 8, requires_grad=True)
    assert counted(lambda: layer(source).sum().backward()) == formula_flops(8 * 4, 10)


def test_fused_attention_is_counted_on_a_cpu():
    query = torch.randn(2, 4, 6, 16, requires_grad=True)
    forward = 2 * (2 * 2 * 4 * 6 * 6 * 16)
    attention = nn.functional.scaled_dot_product_attention
    assert counted(lambda: attention(query, query, query)) == forward
    assert counted(lambda: attention(query, query, query).sum().backward()) == pytest.approx(3.5 * forward)


def test_the_sample_is_extended_by_tokens_stage_by_stage():
    flops = TrainingFlops()
    for stage, size in ((0, 3), (1, 6)):
        for update in range(1, 6):  # of which the first two are counted
            with flops.update("training", stage, update, tokens=10):
                product(size if update < 3 else 1000)
                with flops.part("teacher"):
                    product(1)
    one = 2 * 5 * 7
    expected = {"training": (3 * one * 100 + 6 * one * 50) / 10, "teacher": (one * 100 + one * 50) / 10}
    assert flops.total([100, 50]) == expected
    assert TrainingFlops(flops.state).total([100, 50]) == expected


def test_every_hundredth_update_is_counted():
    flops = TrainingFlops()
    for update in (1, 2, 99, 100, 101, 200):
        with flops.update("training", 0, update, tokens=1):
            product()
    assert flops.state["0"]["tokens"] == 4


def test_counting_changes_no_gradient():
    model = Transformer(SHAPE, 30)
    source = torch.randint(4, 30, (5, 7))

    def gradients():
        torch.manual_seed(0)  # of the dropout
        model.zero_grad()
        encoded = model.encode(source)
        model.project(model.decode(source, encoded).states).logsumexp(-1).sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    plain = gradients()
    found = []
    assert counted(lambda: found.extend(gradients())) > 0
    assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))


def test_decoding_is_extended_from_a_few_sentences_to_all():
    torch.manual_seed(0)
    model, search = Transformer(SHAPE, 30).eval(), SearchConfig(beam=2, max_ratio=1.0, max_extra=2, batch_sentences=8)
    sources = [[*range(4, 4 + length), EOS] for length in range(1, 17)]
    whole = counted(lambda: translate_ids(model, sources, search, device="cpu"))
    estimate = decoding_flops(model, sources, search, "cpu") * sum(map(len, sources))
    assert estimate == pytest.approx(whole, rel=0.15)


def test_the_projection_counts_among_the_parameters_that_multiply():
    tied, loose = (Transformer(SHAPE.model_copy(update={"tie": tie}), 30) for tie in ("all", "none"))
    assert multiplied_parameters(tied) == multiplied_parameters(loose)
    assert multiplied_parameters(tied) == parameter_counts(tied).non_embedding + 30 * 16
