"""The embedded data set: what its two languages do, and that it never changes unnoticed."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.config import TokenizerConfig
from bench.data.corpus import ParallelText, Splits
from bench.data.lexicon import DEFAULT_LANGUAGE, SOURCE, TARGET, Dice, LanguageSettings, draw_lexicon
from bench.data.synthetic import (
    SYNTHETIC_VERSION,
    Clause,
    NounPhrase,
    draw_clause,
    draw_name,
    generate,
    source_text,
    target_text,
    verb_forms,
)
from bench.data.tokenizer import Tokenizer
from bench.errors import UsageError

LEXICON = draw_lexicon(Dice(1), DEFAULT_LANGUAGE)
PLAIN = DEFAULT_LANGUAGE.model_copy(update={"synonym_rate": 0.0, "late_time_rate": 0.0, "late_adverb_rate": 0.0})

PINNED = {"1": "ddd92e3169f1202cea14e6e74d914a1d6cf20aeb91dbbf05f5d64fa5b5fe6426"}

seeds = st.integers(0, 2**32)
clauses = seeds.map(lambda seed: draw_clause(Dice(seed), LEXICON, DEFAULT_LANGUAGE))


@pytest.fixture(scope="module")
def splits() -> Splits:
    return generate()


def usual(clause: Clause) -> str:
    """The most probable translation."""
    return target_text(clause, LEXICON, Dice(0), PLAIN)


def clause_of(nouns: tuple[int, int] = (0, 1), plural: bool = False, verb: int = 0, **parts: Any) -> Clause:
    subject, thing = (NounPhrase(LEXICON.nouns[n], definite=False) for n in nouns)
    simple = Clause(replace(subject, plural=plural), LEXICON.verbs[verb], None, thing, None, None, False)
    return replace(simple, **parts)


def digest(splits: Splits) -> str:
    lines = (f"{s}\t{t}\n" for text in (splits.train, splits.dev, *splits.tests.values()) for s, t in text.pairs())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_text_is_the_one_of_its_version(splits: Splits) -> None:
    assert digest(splits) == PINNED[SYNTHETIC_VERSION], "the text has changed: raise SYNTHETIC_VERSION and pin it anew"


def test_the_text_depends_on_seed_and_settings_alone() -> None:
    small: dict[str, Any] = {"train": 50, "dev": 10, "test": 10}
    assert generate(3, **small) == generate(3, **small)
    assert generate(3, **small) != generate(4, **small)
    assert generate(3, **small) != generate(3, **small, settings=PLAIN)


def test_sizes_and_that_more_training_pairs_leave_the_rest_alone(splits: Splits) -> None:
    assert (len(splits.train), len(splits.dev), len(splits.tests["test"])) == (6000, 250, 500)
    fewer = generate(train=100)
    assert fewer.dev == splits.dev
    assert fewer.tests == splits.tests
    assert fewer.train == splits.train.first(100)


def test_no_source_is_in_two_splits(splits: Splits) -> None:
    train, dev, test = (set(text.source) for text in (splits.train, splits.dev, splits.tests["test"]))
    assert train.isdisjoint(dev | test)
    assert dev.isdisjoint(test)


def test_sentences_are_short_in_pieces(splits: Splits, tmp_path: Path) -> None:
    text = splits.train
    Tokenizer.train([*text.source, *text.target], TokenizerConfig(vocabulary=400), tmp_path / "spm.model")
    tokenizer = Tokenizer.load(tmp_path / "spm.model")
    for side in (text.source, text.target):
        assert 8 <= mean(map(len, tokenizer.encode(side))) <= 11


def test_frequencies_are_skewed(splits: Splits) -> None:
    words = Counter(word for line in splits.train.source for word in line.split())
    nouns = [words[noun.source] for noun in LEXICON.nouns]
    assert nouns[0] > 5 * nouns[len(nouns) // 2] > 0


def test_names_are_an_open_class(splits: Splits) -> None:
    def names(text: ParallelText) -> set[str]:
        return {word for line in text.source for word in line.split() if word[0].isupper()}

    train, test = names(splits.train), names(splits.tests["test"])
    assert len(train) > 500
    assert len(test - train) > len(test) / 4


@given(seed=seeds)
def test_names_are_carried_over_sound_by_sound(seed: int) -> None:
    name = draw_name(Dice(seed), DEFAULT_LANGUAGE)
    [target] = name.target
    for source_sound, target_sound in zip(name.source.lower(), target.lower(), strict=True):
        assert (SOURCE.onsets + SOURCE.vowels).index(source_sound) == (TARGET.onsets + TARGET.vowels).index(
            target_sound
        )
    assert name.gender == SOURCE.vowels.index(name.source[-1]) % DEFAULT_LANGUAGE.genders


def test_sound_laws_are_one_to_one() -> None:
    for language in (SOURCE, TARGET):
        sounds = language.onsets + language.vowels
        assert len(set(sounds)) == len(sounds)
    assert len(SOURCE.onsets) == len(TARGET.onsets)
    assert len(SOURCE.vowels) == len(TARGET.vowels)


def test_source_words_are_unambiguous() -> None:
    classes = (LEXICON.nouns, LEXICON.verbs, LEXICON.adjectives, LEXICON.adverbs, LEXICON.times, LEXICON.particles)
    words = [entry.source for entries in classes for entry in entries] + [LEXICON.definite, LEXICON.indefinite]
    assert len(set(words)) == len(words)
    assert not any(word.endswith("s") for word in words)


@given(clause=clauses, seed=seeds)
def test_source_is_verb_second_and_target_verb_final(clause: Clause, seed: int) -> None:
    source = source_text(clause, LEXICON).split()
    opening = 1 if clause.time and clause.fronted else len(source_subject(clause))
    assert source[opening] == clause.verb.source
    assert clause.particle is None or source[-1] == clause.particle.source
    target = target_text(clause, LEXICON, Dice(seed), DEFAULT_LANGUAGE).split()
    assert target[-1] in {form + LEXICON.finite[clause.subject.plural] for form in verb_forms(clause)}


def source_subject(clause: Clause) -> list[str]:
    alone = Clause(clause.subject, clause.verb, None, None, None, None, False)
    return source_text(alone, LEXICON).split()[:-1]


@given(clause=clauses, seed=seeds)
def test_every_reference_is_one_of_the_valid_translations(clause: Clause, seed: int) -> None:
    """Whatever wording is drawn, the object bears its gender's case ending and each part is said exactly once."""
    words = target_text(clause, LEXICON, Dice(seed), DEFAULT_LANGUAGE).split()
    phrases = [phrase for phrase in (clause.subject, clause.object) if phrase]
    assert len(words) == 1 + sum(1 + bool(p.definite) + bool(p.adjective) for p in phrases) + sum(
        part is not None for part in (clause.time, clause.adverb)
    )
    if clause.object:
        noun = clause.object.noun
        plural = LEXICON.plural if clause.object.plural else ""
        accusatives = {stem + plural + LEXICON.accusative[noun.gender] for stem in noun.target}
        assert accusatives & set(words)


def test_the_verb_agrees_with_the_subject_not_with_the_object() -> None:
    one, many = usual(clause_of()), usual(clause_of(plural=True))
    noun, stem = LEXICON.nouns[0].target[0], LEXICON.verbs[0].senses[LEXICON.nouns[1].gender][0]
    assert (one.split()[0], one.split()[-1]) == (noun, stem + LEXICON.finite[0])
    assert (many.split()[0], many.split()[-1]) == (noun + LEXICON.plural, stem + LEXICON.finite[1])
    assert one.split()[1:-1] == many.split()[1:-1]
    several = clause_of(object=NounPhrase(LEXICON.nouns[1], plural=True, definite=False))
    assert usual(several).split()[-1] == one.split()[-1]
    assert source_text(clause_of(), LEXICON).split()[2] == source_text(clause_of(plural=True), LEXICON).split()[2]


def test_case_endings_and_agreement_follow_the_gender() -> None:
    adjective = LEXICON.adjectives[0]
    for number, noun in enumerate(LEXICON.nouns[1:], start=1):
        phrase = NounPhrase(noun, definite=True, adjective=adjective)
        words = usual(clause_of((0, number), object=phrase)).split()
        gender = noun.gender
        assert words[1:4] == [
            LEXICON.articles[gender],
            noun.target[0] + LEXICON.accusative[gender],
            adjective.target[0] + LEXICON.agreement[gender],
        ]
    assert {noun.gender for noun in LEXICON.nouns} == {0, 1, 2}
    assert len(set(LEXICON.accusative)) == len(set(LEXICON.agreement)) == len(set(LEXICON.articles)) == 3


def test_some_verbs_are_translated_by_the_gender_of_the_object_and_some_are_not() -> None:
    by_gender = {noun.gender: number for number, noun in enumerate(LEXICON.nouns)}
    variants = []
    for verb in range(len(LEXICON.verbs)):
        said = {usual(clause_of((0, noun), verb=verb)).split()[-1] for noun in by_gender.values()}
        variants.append(len(said))
    assert 1 in variants
    assert 3 in variants


def test_a_particle_makes_an_idiom_or_a_prefix() -> None:
    idioms = prefixed = 0
    for number, particle in product(range(len(LEXICON.verbs)), LEXICON.particles):
        verb = LEXICON.verbs[number]
        plain = usual(clause_of(verb=number)).split()[-1]
        fused = usual(clause_of(verb=number, particle=particle)).split()[-1]
        if particle.source in verb.idioms:
            idioms += 1
            assert fused == verb.idioms[particle.source][0] + LEXICON.finite[0]
        else:
            prefixed += 1
            assert fused == particle.prefix + plain
    assert idioms > 10
    assert prefixed > 10


def test_one_source_has_several_references_of_unequal_frequency() -> None:
    drawn = []
    for seed in range(200):
        dice = Dice(seed)
        clause = draw_clause(dice, LEXICON, DEFAULT_LANGUAGE)
        drawn.append(Counter(target_text(clause, LEXICON, dice, DEFAULT_LANGUAGE) for _ in range(50)))
    assert mean(map(len, drawn)) > 3
    assert 0.4 < mean(counts.most_common(1)[0][1] / 50 for counts in drawn) < 0.8


def test_training_pairs_show_different_references_of_a_source(splits: Splits) -> None:
    references: dict[str, set[str]] = defaultdict(set)
    for source, target in splits.train.pairs():
        references[source].add(target)
    assert any(len(targets) > 1 for targets in references.values())


def test_time_phrase_and_adverb_have_two_places_in_the_target() -> None:
    clause = clause_of(time=LEXICON.times[0], adverb=LEXICON.adverbs[0])
    said = Counter(target_text(clause, LEXICON, Dice(seed), DEFAULT_LANGUAGE) for seed in range(400))
    time_first = sum(count for line, count in said.items() if line.split()[0] in LEXICON.times[0].target)
    adverb_third = sum(count for line, count in said.items() if line.split()[2] in LEXICON.adverbs[0].target)
    assert 0.6 < time_first / 400 < 0.8
    assert 0.6 < adverb_third / 400 < 0.8


def test_without_rates_there_is_one_translation() -> None:
    text = generate(2, train=300, dev=5, test=5, settings=PLAIN.model_copy(update={"nouns": 2, "verbs": 1})).train
    assert len(set(text.source)) == len(set(text.pairs())) < 300


def test_a_language_too_poor_for_separate_splits_is_refused() -> None:
    poor = LanguageSettings(
        nouns=1, verbs=1, particles=1, name_share=0, adverb_share=0, time_share=0, adjective_share=0
    )
    with pytest.raises(UsageError, match="too few sentences for 250 more pairs"):
        generate(settings=poor)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name_share": 1.5}, "less than or equal to 1"),
        ({"nouns": 0}, "greater than or equal to 1"),
        ({"name_syllables": (3, 2)}, "from fewest to most"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LanguageSettings(**wrong)
