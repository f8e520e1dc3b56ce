"""The pages of notebooks: small, escaped, without scripts, formulas first, readable without their style sheet."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import kanserve
from kanserve.artifact_compiler import compile
from kanserve.estimator import KANClassifier, KANRegressor
from kanserve.formula import formulas
from kanserve.network.kan import Kan, Variable
from kanserve.plot.mathml import mathml
from kanserve.plot.network_view import NetworkView
from kanserve.plot.page import STYLE
from kanserve.plot.palette import AUTO
from kanserve.plot.scene import Scene
from kanserve.plot.svg import simplify, svg
from tests.support.networks.kans import ZOO, domains, symbolic

MOST = 60_000  # bytes
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</math></svg><b>", "a&b", "$x^2$")
X = np.random.default_rng(0).uniform(0.5, 2, (120, 5))


def law(names: tuple[str, ...]) -> Kan:
    kan = kanserve.from_formula("a*b + sin(c)/d + g^2", ranges={name: (0.5, 2) for name in "abcdg"})
    return replace(kan, inputs=tuple(replace(own, name=n) for own, n in zip(kan.inputs, names, strict=True)))


class Elements(HTMLParser):
    """The names of the elements and attributes of a page, and whether each element that begins also ends."""

    void = ("br", "img", "hr", "path", "rect", "circle", "image", "input", "link", "meta")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(page: str) -> str:
    """The page, which is small, well-formed, and has nothing that runs or that is loaded."""
    assert len(page.encode()) <= MOST
    found = Elements(page)
    assert found.open == [] and not found.names & {"script", "img", "iframe", "link", "object", "b"}
    assert not any(name.startswith("on") for name in found.attributes)
    assert re.findall(r"(?:src|href)=\"(?!data:image/png)", page) == [] and "url(" not in page
    return page


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_network_has_a_page(name):
    checked(ZOO[name]()._repr_html_())


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("shape", [[10, 5, 2], [8, 8, 4], [100, 20, 1], [784, 64, 10]])
def test_a_network_of_any_size_has_a_small_page(shape):
    page = checked(kanserve.create(shape, seed=1)._repr_html_())
    assert "<svg" in page and "-".join(map(str, shape)) in page


def test_a_formula_is_typeset_above_the_picture_and_a_long_one_is_text_that_wraps():
    page = checked(law(tuple("abcdg"))._repr_html_())
    assert 0 < page.index("<math") < page.index("<svg") < page.index("inputs and outputs")
    page = checked(kanserve.create([4, 4, 1], seed=1)._repr_html_())
    assert 0 < page.index("<code>y = ") < page.index("s_1_1_1") < page.index("</code>") < page.index("<svg")


def test_formulas_show_themselves_as_lines_and_as_html():
    kan = kanserve.from_formula({"a": "2*x", "b": "x^2"}, ranges={"x": (0, 1)})
    found = kanserve.formulas(kan)
    assert repr(found) == "a = 2*x\nb = x^2" and found[1].text == "x^2"
    assert found._repr_html_().count("<math") == 2


def test_a_score_is_a_table():
    kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    page = checked(kanserve.score(kan, ([[0.0], [1.0]], [1.5, 3.0]))._repr_html_())
    assert "0.77778" in page and "RMSE" in page


def test_data_of_a_thousand_columns_show_some_and_say_so():
    data = kanserve.Dataset(np.random.default_rng(0).normal(size=(50, 1000)), np.arange(50.0))
    page = checked(data._repr_html_())
    assert "showing 21 of 1,001 columns" in page and page.count("<svg") == 21 and "50 rows" in page


@pytest.mark.slow
@pytest.mark.extended
def test_names_are_text_in_every_page():
    kan = law(HOSTILE)
    kan = replace(kan, outputs=(Variable(HOSTILE[0]),))
    data = kanserve.Dataset(X, kan(X)[:, 0], inputs=HOSTILE, outputs=(HOSTILE[0],))
    session = kanserve.Session(kan, data)
    findings = kanserve.find_formulas(data, max_fits=200)
    artifact = compile(kan, ["numpy_source"], name="hostile")
    shown = [kan, data, session, session.snapshot(), findings, artifact, kanserve.separability(kan), *formulas(kan)]
    for one in shown:
        page = checked(one._repr_html_())
        assert "&lt;script&gt;" in page, type(one)


def test_a_formula_shows_its_conditions_its_variables_and_its_code():
    formula = formulas(kanserve.from_formula("log(3*x + 1)"), strict=False)[0]
    page = checked(formula._repr_html_())
    assert "defined where log: 3*x + 1 &gt; 0" in page and "<summary>variables</summary>" in page
    assert "np.log(" in page


def test_formulas_say_which_numbers_stand_for_categories_and_missing_values():
    kan = ZOO["named_categories"]()
    for one in (kan, formulas(kan)[0]):
        page = checked(one._repr_html_())
        assert "where kind = 0.5 for &#x27;p&#x27;" in page and "where y = 0.5 where missing" in page


@pytest.mark.slow
@pytest.mark.extended
def test_findings_show_the_recommended_formula_first_and_all_of_them_in_a_table():
    found = kanserve.find_formulas((X, X[:, 0] ** 2 + np.sin(3 * X[:, 1]) + 0.3 * X[:, 2]), max_fits=400)
    page = checked(found._repr_html_())
    assert page.index("<math") < page.index(found.meaning.split(":")[0]) < page.index("<table")
    assert page.count("<tr") == len(found) + 1 and page.count('class="best"') == 1


@pytest.mark.slow
@pytest.mark.extended
def test_a_session_writes_its_spline_formulas_and_draws_its_network_and_its_edges():
    kan = kanserve.create([5, 4, 1], seed=1)
    session = kanserve.Session(kan, (X, X[:, 0]))
    page = checked(session._repr_html_())
    assert page.index("<code>") < page.index("s_1_1_1") and page.count("<svg") == 1 + kan.edges
    wide = kanserve.Session(ZOO["wide"](), (np.random.default_rng(0).uniform(-1, 1, (60, 20)), np.zeros((60, 17))))
    assert re.search(r"and \d{3} more edges", checked(wide._repr_html_()))


def test_a_separable_output_says_into_what_it_separates():
    page = checked(kanserve.separability(law(tuple("abcdg")))._repr_html_())
    assert "y = f1(a, b) + f2(c, d) + f3(g)" in page and 'class="framed"' in page


@pytest.mark.slow
def test_an_estimator_shows_the_diagram_of_scikit_learn_and_below_it_what_it_fitted():
    for estimator, y in ((KANRegressor(hidden=2), np.sin(X[:, 0])), (KANClassifier(hidden=2), X[:, 0] > 1)):
        assert '<div class="kanserve">' not in estimator._repr_html_()
        estimator.fit(X, y)
        page = estimator._repr_html_()
        own = page[page.index('<div class="kanserve">') :]
        assert estimator._repr_mimebundle_()["text/html"].endswith(own) and len(page.encode()) <= MOST
        assert "<svg" in checked(own) and "Kan 5-2-" in own


def test_a_network_that_is_finite_nowhere_says_so_instead_of_raising():
    kan = kanserve.from_formula("log(x)", ranges={"x": (1, 2)})
    kan = replace(kan, inputs=(Variable("x", "", -2.0, -1.0),))
    assert "not finite" in checked(kan._repr_html_())
    checked(domains()._repr_html_())


@pytest.mark.parametrize(
    ("latex", "wanted"),
    [
        (r"\frac{x_{1}}{2}", "<mfrac><mrow><msub><mi>x</mi><mrow><mn>1</mn></mrow></msub></mrow><mrow><mn>2</mn>"),
        (r"\sqrt{2 \alpha}", "<msqrt><mrow><mn>2</mn><mi>α</mi></mrow></msqrt>"),
        (r"\left|x\right|", '<mo fence="true">|</mo><mi>x</mi><mo fence="true">|</mo>'),
        (r"3 \cdot 10^{-9}", '<mo>·</mo><msup><mn>10</mn><mrow><mo form="prefix">−</mo><mn>9</mn></mrow></msup>'),
        (r"\operatorname{artanh}\left(x\right)", "<mi>artanh</mi><mo>&#x2061;</mo>"),
        (r"\text{a \& \textbackslash{}b\{\}}", r"<mi>a &amp; \b{}</mi>"),
        (r"\text{<b>}", "<mi>&lt;b&gt;</mi>"),
        (r"s_{1,2,3}\left(u\right) + \dots", "<mo>…</mo>"),
    ],
)
def test_the_latex_of_formulas_becomes_mathml(latex, wanted):
    assert wanted in mathml(latex)


@pytest.mark.parametrize("name", sorted(set(ZOO) - {"wide", "fine"}))
def test_the_mathml_of_every_network_is_well_formed(name):
    for formula in formulas(ZOO[name](), strict=False, limit=200):
        assert Elements(mathml(formula.latex, formula.name)).open == []


def test_a_picture_without_its_style_sheet_has_colours_that_show_on_any_ground():
    page = symbolic()._repr_html_().replace(STYLE, "")
    used = set(re.findall(r'(?:fill|stroke)="(#\w+)"', page))
    assert used and used <= set(AUTO.roles.values())


def test_paths_are_short_and_nearly_exact():
    t = np.linspace(0, 100, 200)
    curve = np.stack([t, 40 * np.sin(t / 15)], axis=1)
    kept = simplify(curve)
    assert len(kept) < 40 and np.abs(np.interp(t, *kept.T) - curve[:, 1]).max() < 0.4
    scene = Scene("line", 10, 10)
    scene.line([(0, 0), (0.5, 0.04), (10, -3)], "ink")
    assert 'd="M0 0l.5 0 9.5-3"' in svg(scene)


def test_the_shares_of_the_largest_edges_are_counted_by_layer():
    view = NetworkView(kanserve.create([6, 5, 2], seed=1))
    groups = view.largest(24)
    assert [len(group) for group in groups] == [14, 10]
    assert view.signal([place for group in view.largest(40) for place in group]) == pytest.approx(1)
    shares = [view.shares.edges[0][j, i] for _, j, i in groups[0]]
    assert (np.diff(shares) <= 0).all()
