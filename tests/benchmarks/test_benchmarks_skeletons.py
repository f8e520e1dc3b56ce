"""A law is unseen if no other text of the repository has its skeleton: its tree without constants and names."""

import pytest

from benchmarks._equations import Setting, laws
from benchmarks._skeletons import seen, skeleton


@pytest.mark.parametrize(
    ("law", "same", "other"),
    [
        ("2*exp(-x/3)", "5*exp(7*t)", "2*exp(-x/3) + 1"),
        ("x*y + z", "c + a*b", "x*y - z"),
        ("sin(a)*cos(b)", "cos(u)*sin(v)", "sin(a)*sin(b)"),
        ("x^3 + 2*x", "0.5*y + y^3", "x^4 + 2*x"),
        ("sqrt(a**2 + b**2)", "sqrt(u^2 + v^2)", "sqrt(2*a^2 + b^2)"),
        ("pi*r^2", "3*x^2", "r^2"),
    ],
)
def test_constants_names_and_the_order_of_terms_are_no_part_of_a_skeleton(law, same, other):
    assert skeleton(law) == skeleton(same) is not None
    assert skeleton(law) != skeleton(other) is not None


@pytest.mark.parametrize("text", ["x", "2", "a word", "pi/2", "f(", "1/0*x", ""])
def test_what_is_no_formula_of_an_input_has_no_skeleton(text):
    assert skeleton(text) is None


def test_shared_skeletons_are_found_in_tables_code_and_documentation(tmp_path):
    setting = Setting("toys")
    chosen = laws(setting)
    before = seen(setting, chosen, tmp_path)
    # Of the toys, the product, the quotient and the distance are in other tables too.
    assert before.startswith("3 of 5 laws share") and "product: " in before and "hello" not in before
    (tmp_path / "tests").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "tests" / "test_laws.py").write_text('LAW = "exp(sin(2*u) + v^2)"\nPATH = "tests/unit"\n')
    (tmp_path / "docs" / "laws.md").write_text("A ball: `tanh(3*(a^4 + b^4 + c^4 - 2))`.\n")
    after = seen(setting, chosen, tmp_path)
    assert after.startswith("5 of 5 laws share")
    assert "hello: exp(sin(2*u) + v^2) (tests/test_laws.py)" in after
    assert "sphere: tanh(3*(a^4 + b^4 + c^4 - 2)) (docs/laws.md)" in after
