import ast
import keyword
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest

import kanserve_exporters
from kanserve.errors import ExportError, NotFoundError
from kanserve.network.export_options import ExportOptions
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Symbolic, make_layer
from kanserve.train import create
from kanserve_exporters._shared import source_text
from kanserve_exporters._shared.expressions import Dialect, body, decimals, domain, helper, term
from kanserve_exporters._shared.source_text import c_identifier, module_name
from tests.support.networks.kans import ZOO, hostile_names, symbolic, wide
from tests.support.networks.powers import POWERS

DOUBLE, FLOAT = Dialect("c", "double", "p_"), Dialect("c", "float", "p_")
SOURCES = ("c_source", "numpy_source", "javascript_source")


def test_exporters_are_found_by_looking():
    assert kanserve_exporters.names() == ("c_source", "javascript_source", "numpy_source", "onnx_graph", "wasm_module")


def test_an_unknown_exporter_is_refused_with_the_names_there_are():
    for name in ("cobol", "_expressions", "", "..c_source"):
        with pytest.raises(NotFoundError, match="c_source, javascript_source, numpy_source"):
            kanserve_exporters.get(name)


def test_an_entry_point_adds_an_exporter_but_does_not_replace_ours(monkeypatch):
    def points(group, name=None):
        assert group == "kanserve.exporters"
        found = (
            EntryPoint("third", "kanserve_exporters.c_source", group),
            EntryPoint("numpy_source", "kanserve_exporters.c_source", group),
            EntryPoint("broken", "json", group),
        )
        return [exporter_name for exporter_name in found if name in (None, exporter_name.name)]

    monkeypatch.setattr(kanserve_exporters, "entry_points", points)
    assert "third" in kanserve_exporters.names()
    assert kanserve_exporters.get("third") is kanserve_exporters.get("c_source")
    assert kanserve_exporters.get("numpy_source") is not kanserve_exporters.get("c_source")
    with pytest.raises(ExportError, match="json"):
        kanserve_exporters.get("broken")


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("exporter", SOURCES)
def test_equal_networks_give_equal_bytes_in_every_process(exporter):
    program = (
        "import hashlib, kanserve_exporters as e; from kanserve.network.export_options import ExportOptions;"
        "from tests.support.networks.kans import ZOO;"
        f"print(*[hashlib.sha256(repr(sorted(e.get({exporter!r}).export(ZOO[name](), ExportOptions()).items()))"
        ".encode()).hexdigest() for name in ('mixed', 'every_function', 'multiplication')])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("exporter", ["c_source", "numpy_source"])
def test_a_constant_that_float_cannot_hold_is_refused(exporter):
    kan = Kan((make_layer(functions=[["sin"]], affine=[[[1.0, 0.0, 1e300, 0.0]]]),))
    export = kanserve_exporters.get(exporter).export
    assert export(kan, ExportOptions(precision="double"))
    with pytest.raises(ExportError, match=r"1e\+300.*double"):
        export(kan, ExportOptions(precision="float"))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("exporter", SOURCES)
@pytest.mark.parametrize("name", list(ZOO))
def test_source_is_ascii_and_names_no_path(exporter, name):
    for path, data in kanserve_exporters.get(exporter).export(ZOO[name](), ExportOptions("net")).items():
        assert path.isascii() and "/" not in path
        assert data.isascii() and b"\r" not in data and data.endswith(b"\n")


def test_literals_read_back_as_the_same_number():
    values = np.concatenate(
        [np.random.default_rng(0).normal(size=500) * 10.0 ** np.arange(-250, 250), [0, -0.0, 5e-324]]
    )
    assert [float(text) for text in decimals(values, "double")] == values.tolist()
    assert [float(DOUBLE.literal(value)) for value in values] == values.tolist()
    small = np.concatenate([np.random.default_rng(0).normal(size=70) * 10.0 ** np.arange(-35, 35), [1e-45]])
    read = np.array([FLOAT.literal(number).removesuffix("f") for number in small], np.float32)
    assert read.tolist() == small.astype(np.float32).tolist()
    assert all(text.endswith("f") for text in map(FLOAT.literal, small))


def test_edges_are_written_with_their_constants_and_neutral_ones_left_out():
    assert term(Symbolic("sin", 2.0, -0.5, 3.0, 9.0), "v[1]", DOUBLE) == "3.0*sin(2.0*v[1]-.5)"
    assert term(Symbolic("sin", 2.0, -0.5, 3.0, 9.0), "v[1]", FLOAT) == "3.0f*sinf(2.0f*v[1]-.5f)"
    assert term(Symbolic("x", 2.0, 1.0, 3.0, 9.0), "v[1]", DOUBLE) == "3.0*(2.0*v[1]+1.0)"
    assert term(Symbolic("x", 1.0, 0.0, 1.0, 0.0), "v[1]", DOUBLE) == "v[1]"
    assert term(Symbolic("x^2", 1.0, 0.0, 1.0, 0.0), "v[1]", DOUBLE) == "p_fx2(v[1])"
    # A zero is not neutral: 0·log(-1) is NaN.
    assert term(Symbolic("log", 1.0, 0.0, 0.0, 0.0), "v[1]", DOUBLE) == "0.0*p_flog(v[1],e)"


def test_helpers_of_different_functions_have_different_names():
    names = [*FUNCTIONS, *POWERS]
    assert len({helper(name, DOUBLE) for name in names}) == len(names)
    assert all(helper(name, DOUBLE).isidentifier() for name in names)


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_every_function_is_printed_without_pow_and_in_the_type_asked_for(name):
    double, text, numpy = ("".join(body(name, one)) for one in (DOUBLE, FLOAT, Dialect("numpy", "double", "_")))
    assert "pow" not in double + text + numpy and "**" not in numpy
    assert not [call for call in ("sin(", "cos(", "exp(", "log(", "sqrt(", "tan(", "tanh(", "fabs(") if call in text]


@pytest.mark.parametrize("name", [*FUNCTIONS, *POWERS])
def test_the_condition_of_a_domain_is_where_the_function_is_finite(name):
    condition = domain(name).replace("&&", "and") or "True"
    with np.errstate(all="ignore"):
        for x in (-2.0, -1.0, -0.5, -1e-9, 0.0, 1e-9, 0.5, 1.0, 2.0):
            finite = bool(np.isfinite(FUNCTIONS[name].numpy(np.array([x])))[0])
            assert eval(condition, {"x": x}) == finite, x


HOSTILE_NAMES = (
    "",
    "x; system('rm')",
    "int",
    "class",
    "co_yield",
    "math",
    "errno",
    "lambda",
    "numpy",
    "random",
    "__x__",
    "9lives",
    "größe",
    "日本",
    "a" * 300,
    "*/",
    "..",
    "-",
    "INT",
    "null\0",
)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_any_name_becomes_a_safe_identifier(name):
    for text in (c_identifier(name), module_name(name)):
        assert text.isascii() and text.isidentifier() and len(text) <= 70
        assert not text.startswith("_") and not text.endswith("_") and "__" not in text
    assert c_identifier(name) not in {"int", "class", "co_yield", "math", "errno"}
    assert not keyword.iskeyword(module_name(name)) and module_name(name) not in {"numpy", "random"}


@pytest.mark.parametrize("name", ["aux", "CON", "prn", "Nul", "com1", "COM9", "lpt1", "lpt9"])
def test_no_file_has_the_name_of_a_device_of_windows(name):
    assert c_identifier(name) == module_name(name) == f"{name}_model"


def test_plain_names_stay_as_they_are():
    assert c_identifier("lift-drag_2") == module_name("lift-drag_2") == "lift_drag_2"


def test_sources_are_written_without_sympy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    body.cache_clear()
    for name in ("c_source", "numpy_source", "javascript_source"):
        assert kanserve_exporters.get(name).export(symbolic(), ExportOptions())


@pytest.mark.slow
def test_sources_state_the_formula_of_a_small_network_and_where_to_find_that_of_a_large_one():
    law = "y = exp(sin(3.14159*x) + y^2)"
    assert law in kanserve_exporters.get("numpy_source").export(symbolic(), ExportOptions("law"))["law.py"].decode()
    assert law in kanserve_exporters.get("c_source").export(symbolic(), ExportOptions("law"))["README.md"].decode()
    deep = create([2, 2, 3, 2, 2, 1], seed=0)  # few edges, each of which is written many times
    assert (
        b"a formula of 22 edges and " in kanserve_exporters.get("c_source").export(deep, ExportOptions())["README.md"]
    )
    assert b"888 edges" in kanserve_exporters.get("c_source").export(wide(), ExportOptions())["README.md"]


def test_a_hostile_name_in_the_formula_stays_inside_the_docstring():
    source = kanserve_exporters.get("numpy_source").export(hostile_names(), ExportOptions("h"))["h.py"]
    tree = ast.parse(source)
    docstring = ast.get_docstring(tree)
    assert docstring is not None and "größe" in docstring and "s_1_1_1" in docstring
    # What follows the docstring is the import of NumPy, not something that a name brought.
    assert isinstance(tree.body[1], ast.Import)


@pytest.mark.parametrize("exporter", [*SOURCES, "onnx_graph"])
def test_a_network_that_is_finite_nowhere_is_exported_without_its_formula(exporter):
    kan = Kan((make_layer(functions=[["1/x"]], affine=[[[0.0, 0.0, 1.0, 0.0]]]),))
    files = kanserve_exporters.get(exporter).export(kan, ExportOptions())
    assert exporter == "onnx_graph" or any(b"(not stated: " in data for data in files.values())


@pytest.mark.parametrize("exporter", SOURCES)
def test_whatever_happens_to_a_formula_the_network_is_exported(exporter, monkeypatch):
    def fail(kan, **options):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(source_text, "formulas", fail)
    files = kanserve_exporters.get(exporter).export(symbolic(), ExportOptions())
    assert any(b"(not stated: by zero)" in data for data in files.values())


@pytest.mark.parametrize("exporter", [*SOURCES, "onnx_graph"])
def test_constants_that_add_up_beyond_a_double_are_refused(exporter):
    kan = Kan((make_layer(functions=[["x", "x"]], affine=[[[1.0, 0.0, 1.0, 1e308]] * 2]),))
    with pytest.raises(ExportError, match="more than a double holds"):
        kanserve_exporters.get(exporter).export(kan, ExportOptions())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c_source", "numpy_source", "onnx_graph"])
def test_a_network_that_float_makes_a_constant_of_is_refused_with_what_to_do(name):
    coefficients = np.random.default_rng(0).uniform(1, 2, (2, 3, 8))
    plain = make_layer(coefficients)
    vanishing = (
        Kan((make_layer(1e-310 * coefficients),)),
        Kan((plain, make_layer(functions=[["sin", "exp"]], affine=[[[1.0, 0.0, 1e-50, 0.0]] * 2]))),
        Kan((plain,), output_scale=np.full(2, 1e-60)),
        Kan((plain,), input_scale=np.full(3, 1e-60)),
        Kan((replace(plain, node_scale=np.full(2, 1e-60)),)),
    )
    for kan in vanishing:
        with pytest.raises(ExportError, match=r"too small for float: all become 0.*precision=\"double\""):
            kanserve_exporters.get(name).export(kan, ExportOptions(precision="float"))
        assert kanserve_exporters.get(name).export(kan, ExportOptions())
    some = Kan(
        (make_layer(coefficients * np.array([1.0, 1e-310, 0.0])[:, None]), make_layer(functions=[["sin", "exp"]]))
    )
    constant = Kan((make_layer(1e-310 * coefficients, subnode_bias=[1.0, 2.0]),))
    for kan in (some, constant, Kan((make_layer(shape=(1, 2)),))):
        assert kanserve_exporters.get(name).export(kan, ExportOptions(precision="float"))
