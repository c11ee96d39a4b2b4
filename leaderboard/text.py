"""Figures, times and amounts as text for the pages and the terminal."""

from __future__ import annotations

import math
import re
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from bench.results import Record
from bench.ruleset import RULES
from leaderboard.ranking import Difference
from leaderboard.spread import Spread

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters, halves of characters, and what would turn the direction of the text that follows."""

INVENTED = ("src", "tgt")
"""The languages of the embedded data set, which no standard knows."""


def printable(value: str) -> str:
    """Make unprintable characters visible."""
    return _UNPRINTABLE.sub("\ufffd", value)


def one_line(value: Any) -> str:
    """One line of printable characters, so that no string of a record can steer the terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(str(value).split()))


def language_tag(code: str) -> str:
    """What HTML calls a language; empty for an unknown one, so that no reader speaks it with a wrong voice."""
    return "" if code in INVENTED else code


def anchor(title: str) -> str:
    """The id of a section by its title: the first word in small letters."""
    return title.split()[0].lower()


def accesses(record: Record) -> dict[str, tuple[datetime, ...]]:
    """When each test set was decoded; a set with a score and no time was not logged."""
    names = dict.fromkeys((*record.scores, *record.test_access))
    return {name: record.test_access.get(name, ()) for name in names if name != RULES.selection}


def spread(value: Spread) -> str:
    """A mean with its deviation: ``31.42 ± 0.21``."""
    return f"{value.mean:.2f}" + (f" ± {value.deviation:.2f}" if value.deviation is not None else "")


def signed(value: Difference) -> str:
    """A difference with its sign and deviation: ``+1.20 ± 0.31``."""
    return plus_minus(value.mean) + (f" ± {value.deviation:.2f}" if value.deviation is not None else "")


def plus_minus(value: float) -> str:
    """A number with its sign: ``+1.20``."""
    return f"{value:+.2f}".replace("-", "\u2212")


def verdict(value: Difference) -> str:
    """``above``, ``below`` or ``level``, as the two shown decimals have it."""
    shown = round(value.mean, 2)
    return "above" if shown > 0 else "below" if shown < 0 else "level"


def duration(seconds: float) -> str:
    """A time to read: ``4.2 s``, ``3 min 05 s`` or ``2 h 07 min``."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes:02d} min"


def size(count: int) -> str:
    """A count to read: ``812``, ``213 k`` or ``61.4 M``; past all that is counted, ``1.0e+400``."""
    if count < 1_000:
        return str(count)
    if count >= 1e15:
        return f"{Decimal(count):.1e}"
    return f"{count / 1e3:.0f} k" if count < 999_500 else f"{count / 1e6:,.1f} M"


def amount(value: float, kind: str) -> str:
    """So much of a kind of budget: ``180,000 target tokens``, ``2 min 00 s of training`` or ``0.25 device-hours``."""
    if kind == "wall-clock":
        return f"{duration(value)} of training"
    return f"{value:,.0f} target tokens" if kind == "tokens" else f"{value:,.3g} device-hours"


def web_address(link: str) -> str | None:
    """``link`` if it is a plain web address, so that no other scheme ever becomes a link."""
    try:
        parts = urlsplit(link)
    except ValueError:
        return None
    return link if parts.scheme in ("http", "https") and parts.netloc and not re.search(r"\s", link) else None


def operations(count: float) -> str:
    """Floating-point operations: ``12.3 GFLOP``."""
    return _scaled(count, "FLOP")


def energy(joules: float) -> str:
    """Energy: ``3.21 kJ``."""
    return _scaled(joules, "J")


def grams(mass: float) -> str:
    """Mass: ``12.3 g`` or ``1.20 kg``."""
    return _scaled(mass, "g")


def money(price: float) -> str:
    """A price: ``1,234.50``; a small one with two digits that tell something."""
    return f"{price:,.2f}" if price >= 0.1 or price == 0 else f"{price:.2g}"


def memory(count: int) -> str:
    """Bytes: ``312 MB``, of a million each."""
    return _scaled(count, "B")


def _scaled(value: float, unit: str) -> str:
    """Three significant digits with the decimal prefix that suits."""
    if value < 1:
        return f"{value:.3g} {unit}"
    power = min(int(math.log10(float(f"{value:.3g}"))) // 3, 6)
    digits = max(0, 2 - int(math.log10(float(f"{value:.3g}"))) + 3 * power)
    return f"{value / 1000**power:,.{digits}f} {['', 'k', 'M', 'G', 'T', 'P', 'E'][power]}{unit}"
