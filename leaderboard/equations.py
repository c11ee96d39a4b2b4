r"""Equations of methods: from the LaTeX that their authors write to MathML that a browser sets without a script."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree as Xml

from latex2mathml.converter import convert
from markupsafe import Markup

NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
_ELEMENTS = (
    "math mrow mi mn mo ms mtext mspace mfrac msqrt mroot msub msup msubsup munder mover munderover mtable mtr mtd "
    "mpadded mstyle"
)
_ATTRIBUTES = (
    "display mathvariant stretchy fence form accent accentunder movablelimits linethickness lspace rspace width "
    "minsize maxsize displaystyle columnalign"
)
ELEMENTS, ATTRIBUTES = frozenset(_ELEMENTS.split()), frozenset(_ATTRIBUTES.split())
"""What may stay of the converter's output: nothing that links, loads or runs."""


@dataclass(frozen=True)
class Equation:
    """One equation, ready for a page."""

    latex: str
    mathml: Markup | None
    """None where the LaTeX could not be read: the page then shows it as it is."""


def equations(source: str) -> tuple[Equation, ...]:
    """The equations of a method, one in each line of ``source``."""
    lines = [line.strip() for line in source.splitlines()]
    return tuple(Equation(line, mathml(line)) for line in lines if line)


def mathml(latex: str) -> Markup | None:
    """``latex`` as MathML of known elements and attributes only, its text escaped; None if it cannot be read."""
    try:
        root = Xml.fromstring(convert(latex, display="block"))
        if "\\" in "".join(root.itertext()):
            return None  # a command that the converter does not know stands there as it was written
        return Markup(Xml.tostring(_known(root), encoding="unicode"))
    except Exception:  # the converter raises errors of many kinds, and no equation is worth a page
        return None


def _known(element: Xml.Element) -> Xml.Element:
    tag = element.tag.removeprefix(NAMESPACE)
    if tag not in ELEMENTS:
        raise ValueError(f"<{tag}> is no element of an equation")
    clean = Xml.Element(tag, {name: value for name, value in element.items() if name in ATTRIBUTES})
    clean.text, clean.tail = element.text, element.tail
    clean.extend(map(_known, element))
    return clean
