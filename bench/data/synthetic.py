"""The embedded data set: an invented language pair that behaves like translation, generated from a seed.

Source clauses are verb-second with separable particles (``time VERB subject adverb object PARTICLE``); target clauses
are verb-final, with case, agreement and the particle fused into the verb. What makes translating it hard to learn:

- words follow Zipf's law, and names are an open class that must be carried over syllable by syllable;
- the target verb agrees with its subject in number, its object takes the case ending of the noun's gender, and
  adjectives follow their noun and agree with it;
- some verbs are translated by the gender of their object, and many verb-particle pairs mean a verb of their own;
- one source has several valid translations (synonyms, the place of adverb and time phrase) of unequal probability,
  of which a reference shows one: a good teacher knows the others.

Chance comes from ``random.Random(seed).random()`` alone, the one stream Python keeps the same in every version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.data.corpus import ParallelText, Splits
from bench.data.lexicon import (
    DEFAULT_LANGUAGE,
    SOURCE,
    SOURCE_PLURAL,
    Dice,
    Forms,
    LanguageSettings,
    Lexicon,
    Noun,
    Particle,
    Verb,
    Word,
    carried_over,
    draw_lexicon,
)
from bench.errors import UsageError

SYNTHETIC_VERSION = "1"
"""Part of the data set's identity: raised whenever the same arguments would give another text."""

T = TypeVar("T")

# Meaning: what both languages say.


@dataclass(frozen=True)
class NounPhrase:
    """Someone or something: the subject or the object of a clause."""

    noun: Noun
    plural: bool = False
    definite: bool | None = None
    """None for a name, which has no article."""
    adjective: Word | None = None


@dataclass(frozen=True)
class Clause:
    """A whole sentence's meaning. Choices of wording that change no meaning are left to the target grammar."""

    subject: NounPhrase
    verb: Verb
    particle: Particle | None
    object: NounPhrase | None
    adverb: Word | None
    time: Word | None
    fronted: bool
    """Whether the time phrase opens the source clause."""


def draw_clause(dice: Dice, lexicon: Lexicon, settings: LanguageSettings) -> Clause:
    """Think of something to say."""

    def maybe(share: float, words: Sequence[T]) -> T | None:
        return dice.skewed(words, settings.zipf) if dice.chance(share) else None

    def phrase() -> NounPhrase:
        if dice.chance(settings.name_share):
            return NounPhrase(draw_name(dice, settings))
        return NounPhrase(
            noun=dice.skewed(lexicon.nouns, settings.zipf),
            plural=dice.chance(settings.plural_share),
            definite=dice.chance(settings.definite_share),
            adjective=maybe(settings.adjective_share, lexicon.adjectives),
        )

    return Clause(
        subject=phrase(),
        verb=dice.skewed(lexicon.verbs, settings.zipf),
        particle=maybe(settings.particle_share, lexicon.particles),
        object=phrase() if dice.chance(settings.transitive_share) else None,
        adverb=maybe(settings.adverb_share, lexicon.adverbs),
        time=maybe(settings.time_share, lexicon.times),
        fronted=dice.chance(settings.fronted_share),
    )


def draw_name(dice: Dice, settings: LanguageSettings) -> Noun:
    """A name of the open class; its last vowel decides its gender."""
    fewest, most = settings.name_syllables
    syllables = [
        dice.skewed(SOURCE.onsets, settings.zipf) + dice.skewed(SOURCE.vowels, settings.zipf)
        for _ in range(dice.pick(range(fewest, most + 1)))
    ]
    name = "".join(syllables).capitalize()
    return Noun(name, (carried_over(name),), SOURCE.vowels.index(name[-1]) % settings.genders)


# Source grammar: verb-second, no case, the particle last.


def source_text(clause: Clause, lexicon: Lexicon) -> str:
    """The one source sentence of a clause."""
    subject = source_phrase(clause.subject, lexicon)
    time = [clause.time.source] if clause.time else []
    verb = [clause.verb.source]
    opening = time + verb + subject if clause.fronted and time else subject + verb + time
    adverb = [clause.adverb.source] if clause.adverb else []
    thing = source_phrase(clause.object, lexicon) if clause.object else []
    particle = [clause.particle.source] if clause.particle else []
    return " ".join(opening + adverb + thing + particle)


def source_phrase(phrase: NounPhrase, lexicon: Lexicon) -> list[str]:
    """The words of ``article adjective noun-plural``."""
    noun = phrase.noun.source + (SOURCE_PLURAL if phrase.plural else "")
    adjective = [phrase.adjective.source] if phrase.adjective else []
    article = [] if phrase.definite is None else [lexicon.definite if phrase.definite else lexicon.indefinite]
    return article + adjective + [noun]


# Target grammar: verb-final, case on the object, number on the verb.


def target_text(clause: Clause, lexicon: Lexicon, dice: Dice, settings: LanguageSettings) -> str:
    """One of the valid translations of a clause."""

    def choose(forms: Forms) -> str:
        return forms[-1] if dice.chance(settings.synonym_rate) else forms[0]

    def words(phrase: NounPhrase, case: tuple[str, ...] | None = None) -> list[str]:
        """The words of ``article noun-plural-case adjective-gender``; ``case`` is an ending for each gender."""
        gender = phrase.noun.gender
        noun = choose(phrase.noun.target) + (lexicon.plural if phrase.plural else "") + (case[gender] if case else "")
        adjective = [choose(phrase.adjective.target) + lexicon.agreement[gender]] if phrase.adjective else []
        return ([lexicon.articles[gender]] if phrase.definite else []) + [noun] + adjective

    subject = words(clause.subject)
    thing = words(clause.object, lexicon.accusative) if clause.object else []
    time = [choose(clause.time.target)] if clause.time else []
    adverb = [choose(clause.adverb.target)] if clause.adverb else []
    opening = subject + time if dice.chance(settings.late_time_rate) else time + subject
    middle = thing + adverb if dice.chance(settings.late_adverb_rate) else adverb + thing
    verb = choose(verb_forms(clause)) + lexicon.finite[clause.subject.plural]
    return " ".join([*opening, *middle, verb])


def verb_forms(clause: Clause) -> Forms:
    """The target stems of the verb: of the idiom, or by the object's gender with the particle as a prefix."""
    verb, particle = clause.verb, clause.particle
    if particle and particle.source in verb.idioms:
        return verb.idioms[particle.source]
    senses = verb.senses[clause.object.noun.gender if clause.object else 0]
    return tuple(particle.prefix + stem for stem in senses) if particle else senses


def generate(
    seed: int = 1,
    train: int = 6000,
    dev: int = 250,
    test: int = 500,
    settings: LanguageSettings = DEFAULT_LANGUAGE,
) -> Splits:
    """The data set: a language pair and its text, a pure function of the arguments.

    Test, then dev, then train are drawn, so that more training pairs leave the others as they are. No source of dev
    or test is in another split; training pairs repeat as they do in life, with translations that may differ.

    Raises:
        UsageError: the language has too few sentences for splits that share none.
    """
    dice = Dice(seed)
    lexicon = draw_lexicon(dice, settings)
    held_out: set[str] = set()

    def pairs(count: int) -> ParallelText:
        drawn: list[tuple[str, str]] = []
        for _ in range(100 * count):
            if len(drawn) == count:
                break
            clause = draw_clause(dice, lexicon, settings)
            source = source_text(clause, lexicon)
            if source not in held_out:
                drawn.append((source, target_text(clause, lexicon, dice, settings)))
        if len(drawn) < count:
            raise UsageError(
                f"the synthetic language has too few sentences for {count} more pairs: enlarge its lexicon."
            )
        return ParallelText(tuple(source for source, _ in drawn), tuple(target for _, target in drawn))

    evaluation = []
    for count in (test, dev):
        evaluation.append(pairs(count))
        held_out.update(evaluation[-1].source)
    return Splits(train=pairs(train), dev=evaluation[1], tests={"test": evaluation[0]})
