"""Equations: LaTeX becomes MathML of known elements only, or is shown as it was written."""

import re

import pytest

from bench.registry import load_file, load_methods
from bench.scaffold import new_method
from leaderboard.equations import ATTRIBUTES, ELEMENTS, equations, mathml


def test_an_equation_is_set():
    found = mathml(r"\frac{\alpha}{2}")
    assert found == (
        '<math display="block"><mrow><mfrac><mrow><mi>α</mi></mrow><mrow><mn>2</mn></mrow></mfrac></mrow></math>'
    )


def test_each_line_is_an_equation():
    assert [each.latex for each in equations("a = b\n\n  c = d \n")] == ["a = b", "c = d"]
    assert equations("") == ()


@pytest.mark.parametrize(
    "latex",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{<img src=x onerror=alert(1)>}",
        r"\text{<maction xmlns='http://www.w3.org/1998/Math/MathML' actiontype='statusline'>x</maction>}",
        r"\unknown{x}",
        r"\frac{",
        "\x00",
        "<!DOCTYPE x [<!ENTITY y 'z'>]>&y;",
    ],
)
def test_what_cannot_be_read_or_is_no_equation_is_not_set(latex):
    (found,) = equations(f"{latex}")
    assert found.mathml is None


def test_links_and_styles_are_dropped():
    found = mathml(r"\href{javascript:alert(1)}{x} \color{red}{y} \class{big}{z}") or ""
    assert "javascript" not in found
    assert "class=" not in found


def test_text_stays_text():
    assert "<mtext>&lt;script&gt;</mtext>" in (mathml(r"\text{&lt;script&gt;}") or "")


@pytest.mark.parametrize("method", load_methods().found.values(), ids=lambda method: method.name)
def test_every_built_in_method_has_a_description_and_equations_that_are_set(method):
    assert method.description
    found = equations(method.equation)
    assert found
    for each in found:
        assert each.mathml
        assert set(re.findall(r"<(\w+)", each.mathml)) <= ELEMENTS
        assert set(re.findall(r' (\w+)="', each.mathml)) <= ATTRIBUTES


def test_the_equation_that_a_new_method_begins_with_is_set(tmp_path):
    path, _ = new_method("my_own", tmp_path)
    (found,) = equations(load_file(path).equation)
    assert found.mathml
