"""The encoder-decoder Transformer (Vaswani et al. 2017), pre- or post-norm, with attention maps on request."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from bench.config import Depth, ModelConfig
from bench.errors import UsageError
from bench.nmt.batch import PAD
from bench.nmt.cache import Memory
from bench.nmt.layers import DecoderLayer, EncoderLayer, dropped
from bench.nmt.linear import Linear, linear
from bench.nmt.step import Decoding

Maps = Literal["encoder", "self", "cross"]
"""Whose attention: the encoder's, the decoder's to itself, the decoder's to the source."""


@dataclass(frozen=True)
class Encoded:
    """What the encoder says about a batch of sources."""

    states: Tensor
    """(batch, source, width), after the final norm of a pre-norm model."""
    mask: Tensor
    """(batch, source) bool, true at real positions."""
    attention: Tensor | None = None
    """(batch, layers * heads, source, source) probabilities, layer by layer."""
    hidden: tuple[Tensor, ...] = ()
    """The states after each layer."""
    padded: bool = True
    """Whether any position is padding; without padding attention needs no mask."""
    _projected: dict[tuple[DecoderLayer, bool], Tensor] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def keys(self) -> Tensor | None:
        """(batch, 1, 1, source) bool, true at keys that may be attended to; None if all may."""
        return self.mask[:, None, None, :] if self.padded else None

    def key_value(self, layer: DecoderLayer) -> Tensor:
        """(batch, source, 2 * width) keys and values for a decoder layer; computed once for any number of prefixes."""
        which = layer, torch.is_grad_enabled()
        if which not in self._projected:
            self._projected[which] = layer.cross.key_value(self.states)
        return self._projected[which]


@dataclass(frozen=True)
class Decoded:
    """What the decoder says about a batch of prefixes."""

    states: Tensor
    """(batch, target, width), ready for ``Transformer.project``."""
    self_attention: Tensor | None = None
    """(batch, layers * heads, target, target) probabilities, layer by layer."""
    cross_attention: Tensor | None = None
    """(batch, layers * heads, target, source) probabilities, layer by layer."""
    hidden: tuple[Tensor, ...] = ()
    """The states after each layer."""


class Transformer(nn.Module):
    """An encoder-decoder Transformer over a vocabulary shared by both sides."""

    source_positions: Tensor
    target_positions: Tensor

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        width = config.width
        self.embedding = _embedding(vocabulary, width)
        """Of target ids; of source ids too where ``tie`` is "all", and the output matrix unless it is "none"."""
        self.source_embedding = None if config.tie == "all" else _embedding(vocabulary, width)
        self.output = None if config.tie != "none" else _output(vocabulary, width)
        for side in ("source_positions", "target_positions"):
            if config.positions == "learned":
                table = nn.init.normal_(torch.empty(config.max_positions, width), std=width**-0.5)
                self.register_parameter(side, nn.Parameter(table))
            else:
                self.register_buffer(side, sinusoids(config.max_positions, width), persistent=False)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.encoder_norm = nn.LayerNorm(width) if config.norm == "pre" else nn.Identity()
        self.decoder_norm = nn.LayerNorm(width) if config.norm == "pre" else nn.Identity()

    def encode(
        self, source: Tensor, *, depth: Depth | None = None, attention: bool = False, hidden: bool = False
    ) -> Encoded:
        """Run the encoder over (batch, source) ids, padded on the right.

        Args:
            depth: use the first layers only, followed by the shared final norm of a pre-norm model.
            attention: also return attention maps (which takes longer).
            hidden: also return every layer's states.

        Raises:
            UsageError: a sentence is longer than ``max_positions``.
        """
        mask = source.ne(PAD)
        # On a GPU, looking would cost more than the mask does.
        padded = mask.is_cuda or not bool(mask.all())
        keys = mask[:, None, None, :] if padded else None
        maps: list[Tensor] | None = [] if attention else None
        layers: list[Tensor] = []
        table = self.source_positions[self._span(0, source.size(1))]
        states = self._embedded(self.source_embedding or self.embedding, source, table)
        for layer in islice(self.encoder, self._checked(depth).encoder):
            states = layer(states, keys, maps)
            if hidden:
                layers.append(states)
        return Encoded(self.encoder_norm(states), mask, torch.cat(maps, 1) if maps else None, tuple(layers), padded)

    def encoded_at(self, encoded: Encoded, depth: Depth) -> Encoded:
        """What ``encode`` gives at ``depth``, out of a deeper pass with ``hidden`` and with the dropout of that one.

        Raises:
            ValueError: the pass was not so deep, or without ``hidden``.
        """
        layers = encoded.hidden[: self._checked(depth).encoder]
        if len(layers) < depth.encoder:
            raise ValueError(f"a pass that kept {len(encoded.hidden)} layers has no encoding at depth {depth}")
        return Encoded(self.encoder_norm(layers[-1]), encoded.mask, hidden=layers, padded=encoded.padded)

    def decode(
        self,
        prefix: Tensor,
        encoded: Encoded,
        *,
        depth: Depth | None = None,
        prefix_mask: Tensor | None = None,
        attention: Collection[Maps] = (),
        hidden: bool = False,
    ) -> Decoded:
        """Run the decoder over (batch, target) ids that start with BOS, padded on the right.

        Args:
            depth, hidden: as for ``encode``.
            attention: also return the maps of "self" or "cross" attention, or both (which takes longer).
            prefix_mask: (batch, target) bool, false where a position must not be attended to; the first always may be.

        Raises:
            UsageError: a prefix is longer than ``max_positions``.
        """
        table = self.target_positions[self._span(0, prefix.size(1))]
        states = self._embedded(self.embedding, prefix, table)
        maps: list[Tensor] | None = [] if "self" in attention else None
        cross_maps: list[Tensor] | None = [] if "cross" in attention else None
        mask = None if maps is None and prefix_mask is None else _prefix_mask(prefix, prefix_mask)
        layers: list[Tensor] = []
        for layer in self._decoder_layers(self._checked(depth).decoder):
            states = layer(states, encoded.key_value(layer), encoded.keys, mask, maps, cross_maps)
            if hidden:
                layers.append(states)
        return Decoded(
            self.decoder_norm(states),
            torch.cat(maps, 1) if maps else None,
            torch.cat(cross_maps, 1) if cross_maps else None,
            tuple(layers),
        )

    def start(
        self,
        encoded: Encoded,
        *,
        beams: int = 1,
        depth: Depth | None = None,
        alone: bool = False,
        memory: Memory | None = None,
    ) -> Decoding:
        """What it takes to decode ``beams`` hypotheses of each sentence position by position, with today's weights.

        Args:
            alone: a batch of one sentence may take other sums, which are faster and differ in their last digits.
            memory: of decodings that nobody goes on with.
        """
        layers = self._decoder_layers(self._checked(depth).decoder)
        mask = encoded.mask if encoded.padded else None
        return Decoding.of(layers, encoded.states, mask, self.output_matrix, beams=beams, alone=alone, memory=memory)

    def step(self, newest: Tensor, decoding: Decoding) -> Tensor:
        """Run the newest position through the decoder, without gradients.

        Args:
            newest: (batch, beams) ids, BOS at first.
            decoding: of ``start``, with what came before.

        Returns:
            Logits (batch, beams, vocabulary).

        Raises:
            UsageError: the prefix is longer than ``max_positions``.
        """
        past = decoding.past
        table = self.target_positions[self._span(past.length, 1)]
        states = self._embedded(self.embedding, newest.flatten(), table)
        past.advance()
        for index, layer in enumerate(decoding.layers):
            states = layer(states, past, index)
        return decoding.project(self.decoder_norm(states)).view(*newest.shape, -1)

    def project(self, states: Tensor) -> Tensor:
        """Decoder states (..., width) to logits (..., vocabulary)."""
        return linear(states, self.output_matrix)

    @property
    def output_matrix(self) -> Tensor:
        """(vocabulary, width): what decoder states are multiplied with."""
        return self.embedding.weight if self.output is None else self.output.weight

    def matrices(self) -> list[nn.Parameter]:
        """The weights that states are multiplied by, the output matrix among them."""
        inner = [cast(nn.Parameter, module.weight) for module in self.modules() if isinstance(module, Linear)]
        tied = [cast(nn.Parameter, self.embedding.weight)] if self.output is None else []
        return inner + tied

    def truncated(self, depth: Depth) -> Transformer:
        """A model of its own with copies of the first ``depth`` layers: what passes with ``depth`` compute."""
        model = copy.deepcopy(self)
        model.config = self.config.at_depth(depth)
        model.encoder = model.encoder[: depth.encoder]
        model.decoder = model.decoder[: depth.decoder]
        return model

    def _embedded(self, embedding: nn.Embedding, ids: Tensor, positions: Tensor) -> Tensor:
        states = torch.add(positions, embedding(ids), alpha=math.sqrt(self.config.width))
        return dropped(states, self.config.dropout, self.training)

    def _span(self, start: int, length: int) -> slice:
        if start + length > self.config.max_positions:
            raise UsageError(
                f"a sentence of {start + length} tokens is longer than the model's max_positions "
                f"({self.config.max_positions}): split it, or train with a larger max_positions."
            )
        return slice(start, start + length)

    def _decoder_layers(self, count: int) -> list[DecoderLayer]:
        return cast("list[DecoderLayer]", list(islice(self.decoder, count)))

    def _checked(self, depth: Depth | None) -> Depth:
        if depth is None:
            return self.config.depth
        if not (1 <= depth.encoder <= len(self.encoder) and 1 <= depth.decoder <= len(self.decoder)):
            raise ValueError(f"depth {depth} does not lie within {self.config.depth}")
        return depth


class ParameterCounts(NamedTuple):
    """How large a model is."""

    total: int
    non_embedding: int
    """Without the matrices over the vocabulary (output included) and over positions."""


def parameter_counts(model: Transformer) -> ParameterCounts:
    """Count parameters; a shared matrix counts once."""
    outside = ("embedding.", "source_embedding.", "output.", "source_positions", "target_positions")
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return ParameterCounts(
        total=sum(sizes.values()),
        non_embedding=sum(size for name, size in sizes.items() if not name.startswith(outside)),
    )


def multiplied_parameters(model: Transformer) -> int:
    """The parameters that take part in a product for each token: all but embeddings, and the output projection."""
    return parameter_counts(model).non_embedding + (model.output or model.embedding).weight.numel()


def sinusoids(positions: int, width: int) -> Tensor:
    """(positions, width) sine and cosine waves, interleaved (Vaswani et al. 2017, section 3.5)."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle = torch.arange(positions).unsqueeze(1) * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


def _prefix_mask(prefix: Tensor, allowed: Tensor | None) -> Tensor:
    """(batch, 1, target, target) bool: causal, at real and allowed keys, and at the first key for every query."""
    keys = prefix.ne(PAD) if allowed is None else prefix.ne(PAD) & allowed
    length = prefix.size(1)
    causal = torch.ones(length, length, dtype=torch.bool, device=prefix.device).tril()
    mask = causal & keys[:, None, None, :]
    mask[..., 0] = True
    return mask


def _embedding(vocabulary: int, width: int) -> nn.Embedding:
    embedding = nn.Embedding(vocabulary, width, padding_idx=PAD)
    nn.init.normal_(embedding.weight, std=width**-0.5)
    with torch.no_grad():
        embedding.weight[PAD].zero_()
    return embedding


def _output(vocabulary: int, width: int) -> Linear:
    output = Linear(width, vocabulary, bias=False)
    nn.init.normal_(output.weight, std=width**-0.5)
    return output
