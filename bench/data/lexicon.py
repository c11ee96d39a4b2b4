"""The words of the embedded data set's two invented languages, and the settings that say how hard the pair is."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, count
from random import Random
from typing import TypeVar

from pydantic import Field, model_validator

from bench.config import Frozen, Positive

T = TypeVar("T")


def _share(default: float, description: str) -> float:
    return Field(default=default, ge=0.0, le=1.0, description=description)


class LanguageSettings(Frozen):
    """How rich and how hard the language pair is. Shares and rates are probabilities."""

    nouns: Positive = Field(default=30, description="Nouns of the lexicon, names apart.")
    verbs: Positive = 14
    adjectives: Positive = 10
    adverbs: Positive = 6
    times: Positive = Field(default=6, description="Time phrases, a word each.")
    particles: Positive = Field(default=3, description="Separable particles of verbs.")
    genders: Positive = Field(default=3, description="Noun classes; more of them: more endings to choose from.")
    zipf: float = Field(default=1.0, ge=0.0, description="Exponent of word frequencies by rank; 0: all words alike.")
    name_share: float = _share(0.15, "Noun phrases that are a name.")
    name_syllables: tuple[Positive, Positive] = Field(
        default=(2, 3), description="Fewest and most syllables of a name."
    )
    transitive_share: float = _share(0.85, "Clauses with an object.")
    plural_share: float = _share(0.35, "Noun phrases in the plural; names are singular.")
    definite_share: float = _share(0.5, "Noun phrases with the definite article.")
    adjective_share: float = _share(0.25, "Nouns with an adjective.")
    adverb_share: float = _share(0.35, "Clauses with an adverb.")
    time_share: float = _share(0.45, "Clauses with a time phrase.")
    fronted_share: float = _share(
        0.6, "Time phrases that open the source clause, so that the subject follows its verb."
    )
    particle_share: float = _share(0.35, "Clauses whose verb has a separable particle.")
    idiom_share: float = _share(0.5, "Verb-particle pairs with a translation of their own.")
    polysemy_share: float = _share(0.4, "Verbs whose translation depends on the gender of the object.")
    synonym_share: float = _share(0.4, "Words that have a second translation.")
    synonym_rate: float = _share(0.3, "How often the second translation is the reference's.")
    late_time_rate: float = _share(0.3, "How often the reference puts the time phrase after the subject, not first.")
    late_adverb_rate: float = _share(0.3, "How often the reference puts the adverb after the object, not before.")

    @model_validator(mode="after")
    def _names_have_a_length(self) -> LanguageSettings:
        if self.name_syllables[0] > self.name_syllables[1]:
            raise ValueError(f"name_syllables runs from fewest to most, got {self.name_syllables}")
        return self


DEFAULT_LANGUAGE = LanguageSettings()


class Dice:
    """Seeded chance that is the same on every machine."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self._random() * len(items))]

    def skewed(self, items: Sequence[T], exponent: float) -> T:
        """One of ``items``, the n-th with a probability in proportion to n ** -exponent (Zipf's law)."""
        cumulated = _zipf(len(items), exponent)
        return items[min(bisect(cumulated, self._random() * cumulated[-1]), len(items) - 1)]


@cache
def _zipf(ranks: int, exponent: float) -> tuple[float, ...]:
    return tuple(accumulate(rank**-exponent for rank in range(1, ranks + 1)))


@dataclass(frozen=True)
class Phonology:
    """The sounds of a language. A syllable is onset and vowel; a word may end with a coda.

    A sound of one language corresponds to the sound at the same place in the other; names obey this law.
    """

    onsets: str
    vowels: str
    codas: str

    def word(self, dice: Dice, syllables: int) -> str:
        body = "".join(dice.pick(self.onsets) + dice.pick(self.vowels) for _ in range(syllables))
        return body + (dice.pick(self.codas) if dice.chance(0.5) else "")


SOURCE = Phonology(onsets="ptkbdgmnlr", vowels="aeiou", codas="nlr")
TARGET = Phonology(onsets="fzhvjymnwr", vowels="oaeui", codas="nmr")
SOURCE_PLURAL = "s"  # no coda, hence no source word ends with it


def carried_over(name: str) -> str:
    """The target form of a source name, sound by sound."""
    law = str.maketrans(SOURCE.onsets + SOURCE.vowels, TARGET.onsets + TARGET.vowels)
    return name.lower().translate(law).capitalize()


Forms = tuple[str, ...]
"""The translations of one meaning, the usual one first."""


@dataclass(frozen=True)
class Word:
    """An adjective, an adverb or a time phrase."""

    source: str
    target: Forms


@dataclass(frozen=True)
class Noun:
    """A noun, or a name."""

    source: str
    target: Forms
    gender: int


@dataclass(frozen=True)
class Particle:
    """A separable particle; ``prefix`` is what it adds to a target verb wherever the pair is no idiom."""

    source: str
    prefix: str


@dataclass(frozen=True)
class Verb:
    """A verb: ``senses`` by the gender of the object, ``idioms`` by the particle's source form."""

    source: str
    senses: tuple[Forms, ...]
    idioms: dict[str, Forms]


@dataclass(frozen=True)
class Lexicon:
    """The words of both languages, each class in the order of frequency, and the target's endings."""

    definite: str
    indefinite: str
    nouns: tuple[Noun, ...]
    verbs: tuple[Verb, ...]
    adjectives: tuple[Word, ...]
    adverbs: tuple[Word, ...]
    times: tuple[Word, ...]
    particles: tuple[Particle, ...]
    articles: tuple[str, ...]
    """Target definite articles by gender; the indefinite has none."""
    accusative: tuple[str, ...]
    """Object endings by gender."""
    agreement: tuple[str, ...]
    """Adjective endings by gender."""
    plural: str
    """Plural ending of target nouns, before the case."""
    finite: tuple[str, str]
    """Verb endings for a singular and a plural subject."""


class _Coiner:
    """Invents the words of one language, never the same twice; a crowded length yields to the next."""

    def __init__(self, phonology: Phonology, dice: Dice) -> None:
        self._phonology, self._dice, self._taken = phonology, dice, set[str]()

    def word(self, syllables: int) -> str:
        attempts = count()
        while (word := self._phonology.word(self._dice, syllables + next(attempts) // 20)) in self._taken:
            pass
        self._taken.add(word)
        return word


def draw_lexicon(dice: Dice, settings: LanguageSettings) -> Lexicon:
    """Invent a language pair."""
    source, target = _Coiner(SOURCE, dice), _Coiner(TARGET, dice)
    genders = range(settings.genders)

    def forms() -> Forms:
        synonyms = 2 if dice.chance(settings.synonym_share) else 1
        return tuple(target.word(2) for _ in range(synonyms))

    def words(number: int) -> tuple[Word, ...]:
        return tuple(Word(source.word(2), forms()) for _ in range(number))

    def verb() -> Verb:
        senses = [forms() for _ in genders] if dice.chance(settings.polysemy_share) else [forms()] * settings.genders
        idioms = {particle.source: forms() for particle in particles if dice.chance(settings.idiom_share)}
        return Verb(source.word(2), tuple(senses), idioms)

    def endings() -> tuple[str, ...]:
        return tuple(target.word(1) for _ in genders)

    articles, accusative, agreement = endings(), endings(), endings()
    particles = tuple(Particle(source.word(1), target.word(1)) for _ in range(settings.particles))
    return Lexicon(
        definite=source.word(1),
        indefinite=source.word(1),
        nouns=tuple(Noun(source.word(2), forms(), dice.pick(genders)) for _ in range(settings.nouns)),
        verbs=tuple(verb() for _ in range(settings.verbs)),
        adjectives=words(settings.adjectives),
        adverbs=words(settings.adverbs),
        times=words(settings.times),
        particles=particles,
        articles=articles,
        accusative=accusative,
        agreement=agreement,
        plural=target.word(1),
        finite=(target.word(1), target.word(1)),
    )
