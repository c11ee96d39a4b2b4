"""Subword pieces: SentencePiece (Kudo and Richardson 2018), trained on both languages together."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from bench.config import TokenizerConfig
from bench.errors import DataError, UsageError
from bench.nmt.ids import BOS, EOS, PAD, UNK

SAMPLED_LINES = 4_000_000
"""A larger corpus is sampled down to this many lines, by SentencePiece and with its fixed seed, to train the pieces."""

_ONLY_FATAL = 3


class Tokenizer:
    """A trained SentencePiece model.

    Text is taken as it is, without Unicode normalisation, so that it round-trips but for runs of blanks, which
    become one. A character never seen in training is UNK.
    """

    def __init__(self, model: bytes) -> None:
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @staticmethod
    def train(lines: Iterable[str], config: TokenizerConfig, path: Path) -> None:
        """Train on ``lines`` and write the model to ``path`` atomically; the same lines give the same file.

        A vocabulary that a small corpus cannot fill comes out smaller: see ``size``.

        Raises:
            UsageError: the vocabulary cannot hold the corpus's characters, or there is no text.
        """
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=model,
                model_type=config.model,
                vocab_size=config.vocabulary,
                hard_vocab_limit=False,
                character_coverage=1.0,
                normalization_rule_name="identity",
                byte_fallback=False,
                pad_id=PAD,
                unk_id=UNK,
                bos_id=BOS,
                eos_id=EOS,
                input_sentence_size=SAMPLED_LINES,
                shuffle_input_sentence=True,
                num_threads=1,
                minloglevel=_ONLY_FATAL,
            )
        except RuntimeError as error:
            raise UsageError(_explain(str(error), config)) from error
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_bytes(model.getvalue())
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """The tokenizer stored at ``path``.

        Raises:
            DataError: the file is missing, no SentencePiece model, or has other special ids than this project's.
        """
        try:
            tokenizer = cls(path.read_bytes())
        except (OSError, RuntimeError) as error:
            raise DataError(f"{path} cannot be read as a SentencePiece model: {error}.") from error
        processor = tokenizer._processor
        special = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id())
        if special != (PAD, UNK, BOS, EOS):
            raise DataError(f"{path} has pad, unk, bos, eos = {special}; expected {(PAD, UNK, BOS, EOS)}.")
        return tokenizer

    @property
    def size(self) -> int:
        """Number of pieces, the special ones included."""
        return self._processor.get_piece_size()

    @property
    def pieces(self) -> list[str]:
        """All pieces in the order of their ids."""
        return self._processor.id_to_piece(list(range(self.size)))

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """One list of ids per line, each ending with EOS. Runs on one thread, so that a timing means the same."""
        return self._processor.encode(list(lines), out_type=int, add_eos=True, num_threads=1)

    def decode(self, sentences: Sequence[Sequence[int]]) -> list[str]:
        """One line of plain text per list of ids; PAD, BOS and EOS leave no trace."""
        if not sentences:  # SentencePiece takes an empty list for one empty sentence
            return []
        return self._processor.decode([list(ids) for ids in sentences], num_threads=1)


def _explain(message: str, config: TokenizerConfig) -> str:
    needed = re.search(r"smaller than required_chars\. \d+ vs (\d+)", message)
    if needed:
        return (
            f"a vocabulary of {config.vocabulary} pieces is too small for this corpus: "
            f"its characters and the special pieces alone need {needed[1]}."
        )
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return "there is no text to train the tokenizer on."
    return f"SentencePiece could not train a {config.model} model of {config.vocabulary} pieces: {message.strip()}."
