"""The Transformer: equal paths, what may not depend on padding or the future, depth, cache, counts, initial values."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch

from bench.config import Depth, ModelConfig
from bench.errors import UsageError
from bench.nmt import layers
from bench.nmt.batch import EOS, PAD, Batch
from bench.nmt.layers import dropped
from bench.nmt.linear import packed
from bench.nmt.model import Decoded, Encoded, Maps, Transformer, parameter_counts, sinusoids

BATCH = Batch.of(
    [[5, 6, 7, 8, 9, EOS], [10, EOS], [11, 5, 6, EOS]],
    [[12, 13, EOS], [14, 15, 16, 17, EOS], [18, EOS]],
)
FULL = Batch.of([[5, 6, EOS], [7, 8, EOS]], [[9, EOS], [10, EOS]])
SHAPES: list[dict[str, Any]] = [
    {"norm": "post", "tie": "all", "positions": "sinusoidal", "activation": "relu"},
    {"norm": "pre", "tie": "decoder", "positions": "learned", "activation": "gelu"},
    {"norm": "pre", "tie": "none", "positions": "sinusoidal", "activation": "relu"},
]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape['norm']}-{shape['tie']}")


def random_model(seed: int = 0, **shape: object) -> Transformer:
    """A model in which every parameter matters: norms and biases are random too."""
    torch.manual_seed(seed)
    settings = {"width": 16, "ffn": 24, "heads": 2, "encoder_layers": 3, "decoder_layers": 3, "max_positions": 32}
    model = Transformer(ModelConfig.model_validate(settings | shape), 20).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, -0.5, 1.5)
    return model


@torch.no_grad()
def run(model: Transformer, batch: Batch, **options: object) -> tuple[Encoded, Decoded]:
    depth = options.get("depth")
    attention, hidden = bool(options.get("attention")), bool(options.get("hidden"))
    kinds: tuple[Maps, ...] = ("self", "cross") if attention else ()
    assert depth is None or isinstance(depth, Depth)
    encoded = model.encode(batch.source, depth=depth, attention=attention, hidden=hidden)
    return encoded, model.decode(batch.prefix, encoded, depth=depth, attention=kinds, hidden=hidden)


def close(left: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


@every_shape
@pytest.mark.parametrize("batch", [BATCH, FULL], ids=["padded", "full"])
def test_maps_leave_the_states_as_they_are(shape: dict[str, Any], batch: Batch) -> None:
    model = random_model(1, **shape)
    fused, open_ = run(model, batch), run(model, batch, attention=True)
    close(open_[0].states[open_[0].mask], fused[0].states[fused[0].mask])
    close(batch.pack(open_[1].states), batch.pack(fused[1].states))
    assert fused[0].attention is None
    assert fused[1].self_attention is None
    assert fused[1].cross_attention is None
    assert all(torch.isfinite(states).all() for states in (open_[0].states, open_[1].states, fused[1].states))


@every_shape
def test_maps_are_distributions_over_the_keys_that_may_be_seen(shape: dict[str, Any]) -> None:
    encoded, decoded = run(random_model(2, **shape), BATCH, attention=True)
    source, target = BATCH.source.size(1), BATCH.target.size(1)
    real_source, real_target = BATCH.source.ne(PAD), BATCH.mask
    causal = torch.ones(target, target, dtype=torch.bool).tril()
    for maps, shape_, seen in (
        (encoded.attention, (source, source), real_source[:, None, None, :]),
        (decoded.self_attention, (target, target), causal & real_target[:, None, None, :]),
        (decoded.cross_attention, (target, source), real_source[:, None, None, :]),
    ):
        assert maps is not None
        assert maps.shape == (3, 3 * 2, *shape_)
        close(maps.sum(-1), torch.ones(maps.shape[:-1]))
        assert bool((maps[seen.expand_as(maps)] > 0).all())
        assert float(maps[~seen.expand_as(maps)].abs().max()) == 0.0


def test_maps_are_given_before_attention_dropout() -> None:
    model = random_model(3, attention_dropout=0.5).train()
    maps = model.encode(FULL.source, attention=True).attention
    assert maps is not None
    close(maps.sum(-1), torch.ones(maps.shape[:-1]))


@every_shape
def test_a_later_token_changes_nothing_before_it(shape: dict[str, Any]) -> None:
    model = random_model(4, **shape)
    encoded = model.encode(BATCH.source)
    changed = BATCH.prefix.clone()
    changed[1, 3] = 4
    before = model.decode(BATCH.prefix, encoded).states
    after = model.decode(changed, encoded).states
    close(after[1, :3], before[1, :3])
    assert not torch.allclose(after[1, 3:], before[1, 3:], atol=1e-3)


@every_shape
def test_padding_changes_no_real_position(shape: dict[str, Any]) -> None:
    model = random_model(5, **shape)
    together = run(model, BATCH)
    for i in range(3):
        length, target = int(BATCH.source[i].ne(PAD).sum()), int(BATCH.mask[i].sum())
        alone = run(
            model, Batch(*(t[i : i + 1] for t in (BATCH.source[:, :length], BATCH.prefix[:, :target], BATCH.target)))
        )
        close(together[0].states[i, :length], alone[0].states[0])
        close(together[1].states[i, :target], alone[1].states[0])


@every_shape
@pytest.mark.parametrize("depth", [Depth(1, 1), Depth(3, 1), Depth(2, 3)])
def test_truncated_equals_the_first_layers_exactly(shape: dict[str, Any], depth: Depth) -> None:
    model = random_model(6, **shape)
    expected = model.project(run(model, BATCH, depth=depth)[1].states)
    part = model.truncated(depth)
    assert part.config == model.config.at_depth(depth)
    assert (len(part.encoder), len(part.decoder)) == tuple(depth)
    assert torch.equal(part.project(run(part, BATCH)[1].states), expected)
    with torch.no_grad():
        for layer in (*model.encoder[depth.encoder :], *model.decoder[depth.decoder :]):
            for parameter in layer.parameters():
                parameter.normal_()
    assert torch.equal(model.project(run(model, BATCH, depth=depth)[1].states), expected)
    with torch.no_grad():
        model.embedding.weight.normal_()
    assert torch.equal(part.project(run(part, BATCH)[1].states), expected), "the weights must be copies"


def test_depth_counts_layers_and_limits_maps_and_hidden_states() -> None:
    model = random_model(7, norm="pre")
    encoded, decoded = run(model, BATCH, depth=Depth(2, 1), attention=True, hidden=True)
    assert (len(encoded.hidden), len(decoded.hidden)) == (2, 1)
    assert encoded.attention is not None
    assert encoded.attention.size(1) == 2 * 2
    assert decoded.cross_attention is not None
    assert decoded.cross_attention.size(1) == 1 * 2
    close(model.encoder_norm(encoded.hidden[-1]), encoded.states)
    with pytest.raises(ValueError, match="depth 4-1 does not lie within 3-3"):
        model.encode(BATCH.source, depth=Depth(4, 1))
    with pytest.raises(ValueError, match="depth 1-0"):
        model.truncated(Depth(1, 0))


def test_hidden_states_of_a_post_norm_model_end_in_its_output() -> None:
    encoded, decoded = run(random_model(8), BATCH, hidden=True)
    assert torch.equal(encoded.hidden[-1], encoded.states)
    assert torch.equal(decoded.hidden[-1], decoded.states)
    assert len(decoded.hidden) == 3


@every_shape
@pytest.mark.parametrize("attention", [False, True])
def test_masked_prefix_positions_are_not_seen(shape: dict[str, Any], attention: bool) -> None:
    model = random_model(9, **shape)
    encoded = model.encode(BATCH.source)
    allowed = torch.ones_like(BATCH.mask)
    allowed[1, 2] = False
    changed = BATCH.prefix.clone()
    changed[1, 2] = 4
    left = model.decode(BATCH.prefix, encoded, prefix_mask=allowed, attention=("self", "cross") if attention else ())
    right = model.decode(changed, encoded, prefix_mask=allowed, attention=("self", "cross") if attention else ())
    others = torch.tensor([0, 1, 3, 4])
    close(left.states[1, others], right.states[1, others])
    assert not torch.allclose(left.states[1, 2], right.states[1, 2], atol=1e-3), "its own input still counts"
    plain = model.decode(BATCH.prefix, encoded)
    close(left.states[1, :2], plain.states[1, :2])
    assert not torch.allclose(left.states[1, 3:], plain.states[1, 3:], atol=1e-3)
    if left.self_attention is not None:
        assert not left.self_attention[1, :, :, 2].any()


def test_the_first_prefix_position_is_always_seen() -> None:
    model = random_model(10)
    encoded = model.encode(BATCH.source)
    nothing = torch.zeros_like(BATCH.mask)
    maps = model.decode(BATCH.prefix, encoded, prefix_mask=nothing, attention=("self", "cross")).self_attention
    assert maps is not None
    close(maps[..., 0], torch.ones(maps.shape[:-1]))
    fused = model.decode(BATCH.prefix, encoded, prefix_mask=nothing).states
    close(fused, model.decode(BATCH.prefix, encoded, prefix_mask=nothing, attention=("self", "cross")).states)


@every_shape
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_cached_decoding_equals_full_decoding_when_beams_move_and_sentences_leave(
    shape: dict[str, Any], dtype: torch.dtype
) -> None:
    model = random_model(11, **shape).to(dtype)
    encoded = model.encode(BATCH.source)
    decoding = model.start(encoded, beams=3)
    random = torch.Generator().manual_seed(0)
    prefixes = torch.full((3, 3, 1), 2)
    sentences = torch.arange(3)
    for _ in range(30):
        logits = model.step(prefixes[:, :, -1], decoding)
        for i, sentence in enumerate(sentences.tolist()):
            alone = model.encode(BATCH.source[sentence : sentence + 1])
            full = [model.decode(prefixes[i, b : b + 1], alone).states[0, -1] for b in range(3)]
            close(logits[i], model.project(torch.stack(full)))
        parents = torch.randint(0, 3, prefixes.shape[:2], generator=random)
        newest = torch.randint(4, 20, (*prefixes.shape[:2], 1), generator=random)
        prefixes = torch.cat((prefixes.gather(1, parents.unsqueeze(2).expand_as(prefixes)), newest), dim=2)
        decoding.past.move(parents)
        if prefixes.size(2) == 8:
            keep = torch.tensor([0, 2])
            prefixes, sentences = prefixes[keep], sentences[keep]
            decoding.select(keep)


@torch.no_grad()
def test_beams_may_become_more_and_fewer() -> None:
    model = random_model(15)
    encoded = model.encode(BATCH.source)
    decoding = model.start(encoded)
    prefixes = torch.full((3, 1, 1), 2)
    for beams in (4, 2, 5):
        model.step(prefixes[:, :, -1], decoding)
        parents = torch.arange(beams).remainder(prefixes.size(1)).expand(3, -1)
        newest = torch.randint(4, 20, (3, beams, 1), generator=torch.Generator().manual_seed(beams))
        prefixes = torch.cat((prefixes.gather(1, parents.unsqueeze(2).expand(-1, -1, prefixes.size(2))), newest), 2)
        decoding.past.move(parents)
    logits = model.step(prefixes[:, :, -1], decoding)
    for beam in range(5):
        close(logits[:, beam], model.project(model.decode(prefixes[:, beam], encoded).states[:, -1]))


@every_shape
@pytest.mark.parametrize("pack", [True, False])
@torch.no_grad()
def test_decoding_a_sentence_by_itself_equals_full_decoding(shape: dict[str, Any], pack: bool) -> None:
    model = random_model(16, **shape)
    encoded = model.encode(BATCH.source[:1, :6])
    with packed(model.matrices() if pack else []):
        decoding = model.start(encoded, alone=True)
        assert decoding.sources is None
        prefixes = torch.full((1, 1, 1), 2)
        for beams in (1, 3, 3, 2, 3, 1, 1):
            logits = model.step(prefixes[:, :, -1], decoding)
            full = [model.decode(prefix, encoded).states[0, -1] for prefix in prefixes.unbind(1)]
            close(logits[0], model.project(torch.stack(full)))
            parents = torch.arange(beams).flip(0).remainder(prefixes.size(1)).unsqueeze(0)
            newest = torch.arange(4, 4 + beams).view(1, -1, 1)
            prefixes = torch.cat((prefixes.gather(1, parents.unsqueeze(2).expand(-1, -1, prefixes.size(2))), newest), 2)
            decoding.past.move(parents)


@torch.no_grad()
def test_a_source_is_multiplied_in_advance_only_for_one_short_sentence_by_itself() -> None:
    model = random_model(17)
    heads, width = model.config.heads, model.config.width
    longest = torch.randint(4, 20, (1, width // heads), generator=torch.Generator().manual_seed(1))
    assert model.start(model.encode(longest), alone=True).sources is None
    longer = torch.cat((longest, longest[:, :1]), dim=1)
    assert model.start(model.encode(longer), alone=True).sources is not None, "it would be more to multiply"
    assert model.start(model.encode(longest)).sources is not None, "left over from a batch"
    assert model.start(model.encode(longest.repeat(2, 1)), alone=True).sources is not None
    assert model.to(torch.bfloat16).start(model.encode(longest), alone=True).sources is not None, "needs exact sums"


@torch.no_grad()
def test_a_sentence_by_itself_cannot_be_left_out() -> None:
    model = random_model(18)
    decoding = model.start(model.encode(BATCH.source[:1, :6]), alone=True)
    with pytest.raises(ValueError, match="by itself"):
        decoding.select(torch.tensor([0]))


@pytest.mark.parametrize("alone", [False, True])
@torch.no_grad()
def test_a_past_grows_past_its_first_room_and_keeps_its_depth(alone: bool) -> None:
    model = random_model(12, max_positions=80)
    source = BATCH.source[:1, :6] if alone else BATCH.source
    encoded = model.encode(source)
    prefix = torch.randint(4, 20, (len(source), 70), generator=torch.Generator().manual_seed(1))
    decoding = model.start(encoded, depth=Depth(3, 2), alone=alone)
    assert (decoding.sources is None) == alone
    steps = [model.step(prefix[:, i : i + 1], decoding) for i in range(70)]
    close(torch.cat(steps, dim=1), model.project(model.decode(prefix, encoded, depth=Depth(3, 2)).states))


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_a_sentence_beyond_the_positions_is_refused(positions: str) -> None:
    model = random_model(14, positions=positions, max_positions=5)
    model.encode(torch.full((1, 5), 7))
    with pytest.raises(UsageError, match=r"6 tokens is longer than the model's max_positions \(5\)"):
        model.encode(torch.full((1, 6), 7))


def test_parameter_counts_by_hand() -> None:
    width, ffn, vocabulary = 16, 24, 20
    attention = 4 * (width * width + width)
    feed_forward = 2 * width * ffn + ffn + width
    layers = 3 * (attention + feed_forward + 2 * 2 * width) + 3 * (2 * attention + feed_forward + 3 * 2 * width)
    table = vocabulary * width
    assert parameter_counts(random_model(tie="all")) == (layers + table, layers)
    assert parameter_counts(random_model(tie="decoder")) == (layers + 2 * table, layers)
    assert parameter_counts(random_model(tie="none")) == (layers + 3 * table, layers)
    pre = parameter_counts(random_model(norm="pre", positions="learned"))
    assert pre == (layers + 4 * width + table + 2 * 32 * width, layers + 4 * width)


def test_initial_values() -> None:
    torch.manual_seed(0)
    width = 64
    model = Transformer(ModelConfig(width=width, ffn=128, heads=4, encoder_layers=1, decoder_layers=1), 2000)
    assert not model.embedding.weight[PAD].any()
    assert float(model.embedding.weight[1:].detach().std()) == pytest.approx(width**-0.5, rel=0.02)
    bound = math.sqrt(6 / (width + 3 * width))
    for name, parameter in model.named_parameters():
        if name.endswith(("query_key_value.weight", "key_value.weight", "query.weight")):
            assert 0.95 * bound < float(parameter.detach().abs().max()) <= bound
        elif name.endswith("attention.output.weight"):
            assert (
                0.95 * math.sqrt(6 / (2 * width)) < float(parameter.detach().abs().max()) <= math.sqrt(6 / (2 * width))
            )
        elif name.endswith("inner.weight"):
            assert float(parameter.detach().abs().max()) <= math.sqrt(6 / (width + 128))
        elif name.endswith("bias"):
            assert not parameter.any()


def test_sinusoids_are_those_of_the_paper() -> None:
    table = sinusoids(50, 8)
    assert table.shape == (50, 8)
    for position, channel in ((0, 1), (7, 2), (49, 5)):
        angle = position / 10000 ** (2 * (channel // 2) / 8)
        assert float(table[position, channel]) == pytest.approx(
            (math.cos if channel % 2 else math.sin)(angle), abs=1e-5
        )


@pytest.mark.parametrize("rate", [1e-6, 0.1, 0.3, 0.9])
def test_dropout_keeps_the_mean_and_the_rate(rate: float) -> None:
    torch.manual_seed(0)
    states = torch.ones(333, 301, requires_grad=True)
    kept = dropped(states, rate, True)
    assert float(kept.eq(0).float().mean()) == pytest.approx(rate, abs=0.006)
    values = [0.0, 1 / (1 - rate)] if rate > 1e-3 else [1 / (1 - rate)]
    assert kept.detach().unique().tolist() == pytest.approx(values)
    kept.sum().backward()
    assert states.grad is not None
    assert torch.equal(states.grad, kept.detach())
    assert dropped(states, rate, False) is states
    torch.manual_seed(0)
    assert torch.equal(dropped(states, rate, True), kept)


def test_training_uses_dropout_and_reaches_every_parameter() -> None:
    for shape in SHAPES:
        model = random_model(15, dropout=0.2, activation_dropout=0.1, attention_dropout=0.1, **shape).train()
        decoded = model.decode(BATCH.prefix, model.encode(BATCH.source))
        again = model.decode(BATCH.prefix, model.encode(BATCH.source))
        assert not torch.equal(decoded.states, again.states)
        torch.nn.functional.cross_entropy(model.project(BATCH.pack(decoded.states)), BATCH.labels).backward()
        silent = [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
        assert silent == []


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_only_the_maps_that_are_asked_for_are_computed(kind: Maps) -> None:
    model = random_model(3)
    encoded = model.encode(BATCH.source)
    both = model.decode(BATCH.prefix, encoded, attention=("self", "cross"))
    with patch.object(layers, "attention", wraps=layers.attention) as without_maps:
        one = model.decode(BATCH.prefix, encoded, attention=(kind,))
    assert without_maps.call_count == len(model.decoder)
    maps = {"self": (one.self_attention, both.self_attention), "cross": (one.cross_attention, both.cross_attention)}
    for name, (found, expected) in maps.items():
        assert expected is not None
        assert (found is None) == (name != kind)
        if found is not None:
            close(found.transpose(1, 2)[BATCH.mask], expected.transpose(1, 2)[BATCH.mask])
    close(BATCH.pack(one.states), BATCH.pack(both.states))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_shallower_encoding_follows_from_a_deeper_one(norm: str) -> None:
    model = random_model(4, norm=norm)
    whole = model.encode(BATCH.source, hidden=True)
    for layers_used in range(1, len(model.encoder) + 1):
        depth = Depth(layers_used, 1)
        found, expected = model.encoded_at(whole, depth), model.encode(BATCH.source, depth=depth, hidden=True)
        assert torch.equal(found.states, expected.states)
        assert torch.equal(found.mask, expected.mask)
        assert [torch.equal(*pair) for pair in zip(found.hidden, expected.hidden, strict=True)] == [True] * layers_used


def test_further_prefixes_of_a_source_do_not_project_it_again() -> None:
    model = random_model(5)
    encoded, fresh = model.encode(BATCH.source), model.encode(BATCH.source)
    other = BATCH.prefix.flip(0)
    model.decode(other, encoded)
    with patch.object(model.decoder[0].cross.key_value, "forward") as project:
        again = model.decode(BATCH.prefix, encoded)
    assert not project.called
    assert torch.equal(again.states, model.decode(BATCH.prefix, fresh).states)
    with torch.no_grad():
        model.decode(BATCH.prefix, encoded)
    again = model.decode(BATCH.prefix, encoded)
    again.states.sum().backward()
    assert model.decoder[0].cross.key_value.weight.grad is not None


def test_an_encoding_of_more_layers_than_the_pass_kept_is_refused() -> None:
    model = random_model(6)
    for kept in (model.encode(BATCH.source), model.encode(BATCH.source, depth=Depth(1, 1), hidden=True)):
        with pytest.raises(ValueError, match="has no encoding at depth 2-1"):
            model.encoded_at(kept, Depth(2, 1))


def test_projected_sources_belong_to_their_states_and_their_decoder() -> None:
    model, other = random_model(7), random_model(8)
    encoded = model.encode(BATCH.source)
    model.decode(BATCH.prefix, encoded)
    zeros = replace(encoded, states=torch.zeros_like(encoded.states))
    assert not torch.equal(model.decode(BATCH.prefix, zeros).states, model.decode(BATCH.prefix, encoded).states)
    fresh = model.encode(BATCH.source)
    assert torch.equal(other.decode(BATCH.prefix, encoded).states, other.decode(BATCH.prefix, fresh).states)
