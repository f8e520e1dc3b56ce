"""A law written in a language gives what the network gives, whatever its inputs are called."""

import re

import numpy as np
import pytest

from kanserve import formula, from_formula
from kanserve.errors import FormulaError, InputError
from kanserve.formula.printing.languages import LANGUAGES
from kanserve.formula.printing.lowering import ELEMENTARY
from kanserve.formula.printing.symbolic import as_sympy
from kanserve.network.evaluate import evaluate
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Variable, make_layer
from kanserve.network.spellings import SPECIAL
from kanserve.network.training_range import finite_rows, sample
from tests.support.agreement import assert_agrees, eager_float32
from tests.support.cases import one_in
from tests.support.networks.kans import ZOO, mixed, one_edge, rows, symbolic
from tests.support.networks.powers import POWERS
from tests.support.networks.random_formulas import random_formula
from tests.support.peers import law_programs

HOSTILE = (
    *("*/ int evil; /*", "??/", "\\", "\n#error", "\n!", "coding: utf-7", "'''", '"""', "%{", "#=", "{0}", "...", "&"),
    *(
        "X",
        "x",
        "T1",
        "t1",
        "t2",
        "law",
        "law_log",
        "LAW_SQRT",
        "_",
        "__x",
        "größe",
        "42",
        "inputs",
        "OUTPUTS",
        "a" * 99,
    ),
    *(
        "sin",
        "Exp",
        "end",
        "function",
        "double",
        "real",
        "lambda",
        "None",
        "fn",
        "let",
        "using",
        "I",
        "i",
        "NaN",
        "eps",
    ),
)
SPELLED = ("exp", "sin", "x^2", "tanh", "silu", "x^3", "gaussian", "x")


def many_edges() -> Kan:
    """Sums and products longer than a line, values that are used often, and two layers."""
    rng = np.random.default_rng(0)

    def random(o: int, i: int, **options: object):
        names = [[SPELLED[n] for n in row] for row in rng.integers(0, len(SPELLED), (o, i))]
        affine = rng.normal(0, [0.3, 0.3, 0.5, 0.3], (o, i, 4))
        return make_layer(functions=names, affine=affine, **options)  # type: ignore[arg-type]  # tests pass any option

    return Kan((random(9, 20, arity=[1, 1, 1, 2, 4]), random(3, 5)))


def powers() -> Kan:
    """x^2 of x^2 of x^3, and 1/x^2 of a sum."""
    chain = [make_layer(functions=[[name]]) for name in ("x^3", "x^2", "x^2", "x^3")]
    return Kan((*chain, make_layer(functions=[["1/x^2"]], affine=[[[1.0, 2.5, 1.0, 0.0]]])))


NETWORKS = {name: ZOO[name] for name in ("symbolic", "domains", "constant", "every_function")}
NETWORKS |= {"many_edges": many_edges, "powers": powers}


def assert_law(kan: Kan, language: str, folder, precision="double") -> None:
    x = sample(kan, 1000)
    text = formula.source(kan, language, precision=precision)
    got = law_programs.run(language, text, "law", x, len(kan.outputs), folder)
    want = evaluate(kan, x)
    fine = np.isfinite(want).all(axis=1)
    eager = None if precision == "double" else eager_float32(kan, x)[fine]
    assert_agrees(got[fine], want[fine], eager=eager)
    for q, law in enumerate(formula.formulas(kan, strict=False)):
        assert not np.isfinite(got[np.isnan(formula.evaluate_tree(law.tree, law.tables, x)), q]).any()


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("language", ["c", "numpy", "python"])
def test_a_law_is_the_network(language, name, tmp_path):
    kan = NETWORKS[name]()
    if name == "every_function" and language == "python":
        kan = without(kan, "j0")
    assert_law(kan, language, tmp_path)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", ["domains", "constant", "every_function", "many_edges"])
@pytest.mark.parametrize("language", ["fortran", "matlab", "rust"])
def test_a_law_in_a_language_of_its_own_tools_is_the_network(language, name, tmp_path):
    kan = NETWORKS[name]()
    if name == "every_function":
        kan = without(kan, *LANGUAGES[language].lacking())
    assert_law(kan, language, tmp_path)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("precision", ["double", "float"])
@pytest.mark.parametrize("language", one_in(2, law_programs.COMPILERS))
def test_random_laws_compile_without_a_warning(language, precision, tmp_path):
    written = "c" if language == "c++" else language
    laws = [one_of_each(written), many_edges(), powers(), encoded()]
    for seed in range(30):
        text, ranges = random_formula(np.random.default_rng(seed))
        law = from_formula(text, ranges=ranges)
        laws += [law] if len(finite_rows(law, 10)) else []
    assert len(laws) > 20
    texts = [formula.source(law, written, name=f"law_{n}", precision=precision) for n, law in enumerate(laws)]
    law_programs.compiles(language, "\n".join(texts), tmp_path)


def encoded() -> Kan:
    """Categories with and without a number for what is unknown, missing numbers, and names that would end a comment."""
    inputs = (
        Variable("kind", categories=("p", '*/ "q"', "é\n"), category_values=(0.5, 1.5, -0.25), fill_value=0.75),
        Variable("size", "cm", fill_value=-0.5),
        Variable("shape", categories=("round", "square"), category_values=(0.2, -0.7)),
    )
    return Kan((make_layer(functions=[["sin", "x^2", "exp"], ["x", "", "x^3"]]),), inputs)


@pytest.mark.parametrize("precision", ["double", "float"])
@pytest.mark.parametrize(
    "language",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("c", "fortran", "matlab", "rust")),
        *("numpy", "python"),
    ],
)
def test_a_law_takes_codes_of_categories_and_missing_values_as_the_network_does(language, precision, tmp_path):
    if language == "python" and precision == "float":
        return
    x = rows(encoded())
    x = x[~np.isinf(x[:, 1])] if language == "fortran" else x
    want = evaluate(encoded(), x)
    text = formula.source(encoded(), language, precision=precision)
    got = law_programs.run(language, text, "law", x, 2, tmp_path)
    fine = np.isfinite(want).all(axis=1)
    assert 20 < fine.sum() < len(want)
    np.testing.assert_allclose(got[fine], want[fine], rtol=1e-12 if precision == "double" else 1e-5)
    assert not np.isfinite(got[~fine]).all(axis=1).any()


def test_latex_has_the_numbers_of_categories_and_missing_values_as_cases():
    text = formula.source(encoded(), "latex")
    assert r"\mathrm{kind} &= \begin{cases}" in text and r"""1.5 & \text{*/ "q"} \\""" in text
    assert r"0.75 & \text{missing or unknown}" in text and r"\mathrm{size} &= -0.5 \text{ where missing}" in text
    assert text.count(r"\begin{cases}") == text.count(r"\end{cases}") == 2
    assert "cases" not in formula.source(symbolic(), "latex")


def one_of_each(language: str) -> Kan:
    """Each function that the language has, of a sum and of a product."""
    names = [name for name in FUNCTIONS if name not in LANGUAGES[language].lacking()]
    # Other slopes for each, since arguments that are the same are computed once, before the calls.
    affine = [[[0.25 + n / 1000, 0.5, -1.5, 0.3], [-0.2 - n / 1000, 0.5, -1.0, 0.0]] for n in range(len(names))]
    return Kan((make_layer(functions=[[name, name] for name in names], affine=affine),))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("language", ["c", "fortran", "matlab", "numpy", "rust"])
def test_a_law_in_float_has_no_double_in_it(language, tmp_path):
    kan = without(ZOO["every_function"](), *LANGUAGES[language].lacking())
    assert_law(kan, language, tmp_path, precision="float")


def without(kan: Kan, *names: str) -> Kan:
    """The rows of `every_function` but these."""
    (only,) = kan.layers
    kept = ~np.isin(only.functions[:, 0], names)
    return Kan((make_layer(functions=only.functions[kept], affine=only.affine[kept]),))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", [*FUNCTIONS, *POWERS])
def test_every_language_spells_a_function_or_says_that_it_has_none(name):
    kan = Kan((make_layer(functions=[[name]], affine=[[[0.25, 0.5, 1.5, 0.0]]]),))
    for language, writer in LANGUAGES.items():
        if name in writer.lacking():
            with pytest.raises(FormulaError, match=rf"has no function {name}.*numpy_source"):
                formula.source(kan, language)
        else:
            text = formula.source(kan, language)
            assert re.search(r"0\.25|0\.375", text) and "@" not in text and "$" not in text


def test_functions_are_called_as_sympys_printers_call_them():
    """For the languages whose tools are not everywhere: a second opinion on the names."""
    sympy = pytest.importorskip("sympy")
    x = sympy.Symbol("x")
    printers = {"julia": sympy.julia_code, "matlab": sympy.octave_code, "rust": sympy.rust_code}
    for language, printer in printers.items():
        for name in (function for function in ELEMENTARY if function not in (*SPECIAL, "sign")):
            own = LANGUAGES[language].spellings[name].replace("$", "").replace("@", "x")
            assert printer(as_sympy(sympy, FUNCTIONS[name].expression, x)) == own, (language, name)


def test_julia_is_kept_from_raising_where_a_function_is_not_defined():
    text = formula.source(ZOO["domains"](), "julia")
    for name, outside in {"log": "x < 0", "sqrt": "x < 0", "asin": "abs(x) > 1"}.items():
        assert f"law_{name}(x) = {outside} ? oftype(x, NaN) : {name}(x)" in text
        assert len(re.findall(rf"(?<!law_)\b{name}\(", text.split("function")[1])) == 0
    assert "2.5f-05" in formula.source(scaled(2.5e-5), "julia", precision="float")


def test_the_law_of_the_smallest_network_reads_as_one_would_write_it():
    text = formula.source(symbolic(), "c", name="law")
    assert "    outputs[0] = exp(sin(3.141592653589793*x) + y*y);\n" in text
    assert "void law(const double inputs[2], double outputs[1])\n" in text
    assert "    outputs(1) = exp(sin(3.141592653589793d0*x) + y*y)\n" in formula.source(symbolic(), "fortran")
    assert "    outputs(:, 1) = exp(sin(3.141592653589793.*x) + y.*y);\n" in formula.source(symbolic(), "matlab")
    assert formula.source(symbolic(), "octave") == formula.source(symbolic(), "matlab")
    latex = formula.source(symbolic(), "latex")
    assert latex.splitlines()[1] == r"  y &= e^{\sin\left(3.14159 x\right) + y^{2}}"


def scaled(value: float) -> Kan:
    return Kan((make_layer(functions=[["sin"]], affine=[[[1.0, 0.0, value, 0.0]]]),))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("language", ["c", "fortran", "matlab", "numpy", "python", "rust"])
def test_names_are_never_code(language, tmp_path):
    names = HOSTILE
    edges = [["sin", "log", "sqrt", "exp", "x"][n % 5] for n in range(len(names))]
    affine = [[[0.1, 2.0, 1.0, 0.0]] * len(names)]
    inputs = tuple(Variable(name, name) for name in names)
    kan = Kan((make_layer(functions=[edges], affine=affine),), inputs=inputs, outputs=(Variable(names[0]),))
    assert_law(kan, language, tmp_path)
    text = formula.source(kan, language)
    assert text.isascii() and '"*\\/ int evil; /\\*"' in text


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", ["sin", "powf", "printf", "2 laws", "", "*/", "end", "Größe", "fn", "y1"])
def test_the_function_has_a_name_that_the_language_allows(name, tmp_path):
    text = formula.source(symbolic(), "c", name=name)
    (word,) = re.findall(r"void (\w+)\(", text)
    x = sample(symbolic(), 10)
    assert_agrees(law_programs.run("c", text, word, x, 1, tmp_path), evaluate(symbolic(), x))


def test_what_is_no_law_is_refused_with_what_to_do():
    for kan in (one_edge(), mixed()):
        for language in ("c", "latex"):
            with pytest.raises(FormulaError, match=r"splines.*simplify.*c_source"):
                formula.source(kan, language)
    with pytest.raises(InputError, match=r"one of bigquery, c, .*latex.*'cobol'"):
        formula.source(symbolic(), "cobol")
    with pytest.raises(FormulaError, match=r"finite in float.*double"):
        formula.source(scaled(1e300), "fortran", precision="float")
    with pytest.raises(FormulaError, match=r"doubles.*numpy"):
        formula.source(symbolic(), "python", precision="float")
    wide = Kan((make_layer(functions=[["sin"] * 40] * 30),))
    with pytest.raises(FormulaError, match=r"1200 edges.*c_source"):
        formula.source(wide, "c")
