import ctypes
import json
import platform
import re
import subprocess

import numpy as np
import pytest

from kanserve.network.evaluate import evaluate, probabilities
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan, Variable, make_layer
from kanserve.network.training_range import sample
from kanserve_exporters import c_source as exporter
from tests.support.agreement import assert_agrees, eager_float32
from tests.support.c_builds import STRICT, run, written
from tests.support.c_libraries import PRECISIONS, TYPES, compiled, predict
from tests.support.networks.kans import (
    ZOO,
    classifier,
    domains,
    hostile_names,
    mixed,
    multiplication,
    one_edge,
    rows,
    symbolic,
)
from tests.support.networks.sized_networks import all_symbolic
from tests.support.programs import runs


@pytest.fixture(scope="module", params=PRECISIONS)
def zoo(request, tmp_path_factory):
    kans = {f"zoo_{name}": make() for name, make in ZOO.items()}
    folder = tmp_path_factory.mktemp(request.param)
    # One of them optimised, which takes longer: gcc then warns of more.
    flags = () if request.param == "double" else ("-O0",)
    return request.param, kans, compiled(folder, kans, request.param, *flags)


@pytest.mark.slow
@pytest.mark.extended
def test_compiled_c_agrees_with_the_reference_on_the_zoo(zoo):
    precision, kans, library = zoo
    for name, kan in kans.items():
        x = rows(kan)
        want = evaluate(kan, x)
        _, got = predict(library, name, x.astype(TYPES[precision][0]), want.shape[1])
        eager = eager_float32(kan, x) if precision == "float" else None
        try:
            assert_agrees(got, want, eager=eager)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


@pytest.mark.slow
@pytest.mark.extended
def test_self_tests_pass_and_measure_an_error(zoo):
    precision, kans, library = zoo
    for name in kans:
        largest = TYPES[precision][1](-1)
        assert getattr(library, f"{name}_selftest")(ctypes.byref(largest)) == 0, name
        assert 0 <= largest.value < (1e-4 if precision == "float" else 1e-12)
        assert getattr(library, f"{name}_selftest")(None) == 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_information_is_json_that_names_what_the_network_names(tmp_path, precision):
    kans = {name: ZOO[name]() for name in ("classifier", "hostile_names", "raw_features", "log_link", "categories")}
    library = compiled(tmp_path, kans, precision, "-O0")
    for name, kan in kans.items():
        function = getattr(library, f"{name}_info")
        function.restype = ctypes.c_char_p
        information = json.loads(function())
        assert information["precision"] == precision
        assert [variable["name"] for variable in information["inputs"]] == [variable.name for variable in kan.inputs]
        assert [variable["unit"] for variable in information["inputs"]] == [variable.unit for variable in kan.inputs]
        assert [variable["name"] for variable in information["outputs"]] == [output.name for output in kan.outputs]
        assert tuple(information["classes"]) == kan.classes


@pytest.mark.slow
def test_probabilities_are_the_softmax_and_do_not_overflow(tmp_path):
    plain = classifier()
    steep = Kan(plain.layers, classes=plain.classes, output_scale=np.full(3, 1e3), output_shift=np.full(3, 5e3))
    library = compiled(tmp_path, {"plain": plain, "steep": steep}, "double")
    for name, kan in (("plain", plain), ("steep", steep)):
        for x in sample(kan, 10):
            p = np.empty(3)
            assert (
                getattr(library, f"{name}_predict_proba")((ctypes.c_double * 2)(*x), ctypes.c_void_p(p.ctypes.data))
                == 0
            )
            assert np.allclose(p, probabilities(kan, [x])[0], rtol=1e-10, atol=1e-300)
    p = np.zeros(3)
    assert library.plain_predict_proba((ctypes.c_double * 2)(np.nan, 0), ctypes.c_void_p(p.ctypes.data)) == -2
    assert np.isnan(p).all()


def test_codes_say_what_was_wrong_and_bad_rows_are_nan(tmp_path):
    exponential = Kan((make_layer(functions=[["exp"]], affine=[[[1000.0, 0, 1, 0]]]),))
    product = Kan((make_layer(functions=[["exp"], ["log"]], affine=[[[1000.0, 0, 1, 0]], [[1.0, 0, 1, 0]]]),))
    library = compiled(tmp_path, {"overflow": exponential, "both": product, "domains": domains()}, "double")
    x, y = (ctypes.c_double * 1)(0.25), (ctypes.c_double * 4)()
    assert library.domains_predict(x, y) == 0
    assert library.domains_predict(None, y) == -1 and library.domains_predict(x, None) == -1
    for value, outputs in ((np.nan, 4), (np.inf, 4), (-np.inf, 4)):
        y = (ctypes.c_double * 4)(1, 2, 3, 4)
        assert library.domains_predict((ctypes.c_double * 1)(value), y) == -2
        assert np.isnan(y[:outputs]).all()
    for value in (-0.5, -0.6, 0.6, 0.0):  # log(0), log(-0.1), sqrt(-0.1), 1/0
        assert library.domains_predict((ctypes.c_double * 1)(value), y) == -3
        assert np.isnan(y[:]).all()
    assert library.overflow_predict((ctypes.c_double * 1)(1.0), y) == -4
    assert np.isnan(y[0])
    assert library.both_predict((ctypes.c_double * 1)(1.0), y) == -4
    assert library.both_predict((ctypes.c_double * 1)(-1.0), y) == -3


def test_a_batch_goes_on_after_a_bad_row_and_returns_the_first_code(tmp_path):
    kan = domains()
    library = compiled(tmp_path, {"net": kan}, "double")
    x = np.array([[0.25], [0.7], [np.nan], [0.3]])
    code, y = predict(library, "net", x, 4)
    assert code == -3
    assert_agrees(y, evaluate(kan, x))
    assert predict(library, "net", x[2:], 4)[0] == -2 and predict(library, "net", x[:1], 4)[0] == 0


def test_a_batch_steps_by_its_strides_and_leaves_gaps_alone(tmp_path):
    kan = mixed()
    library = compiled(tmp_path, {"net": kan}, "double")
    wide = np.random.default_rng(0).uniform(-1, 1, (5, 7))
    code, y = predict(library, "net", wide, 1, (7, 3))
    assert code == 0
    assert_agrees(y[:, :1], evaluate(kan, wide[:, :2]))
    assert (y[:, 1:] == 7).all()


def test_a_batch_refuses_sizes_and_null_pointers(tmp_path):
    library = compiled(tmp_path, {"net": mixed()}, "double")
    assert predict(library, "net", np.zeros((2, 2)), 1, (1, 1))[0] == -5
    assert predict(library, "net", np.zeros((2, 2)), 1, (2, 0))[0] == -5
    function, y = library.net_predict_batch, (ctypes.c_double * 1)()
    assert function(y, ctypes.c_size_t(2**62), ctypes.c_size_t(2**10), y, ctypes.c_size_t(1)) == -5
    assert function(None, ctypes.c_size_t(1), ctypes.c_size_t(2), y, ctypes.c_size_t(1)) == -1
    assert function(None, ctypes.c_size_t(0), ctypes.c_size_t(2), None, ctypes.c_size_t(1)) == 0


def test_the_test_program_prints_the_golden_rows_and_fails_on_a_wrong_table(tmp_path):
    for path, data in exporter.export(mixed(), ExportOptions("net")).items():
        (tmp_path / path).write_bytes(data)
    build = ("gcc", *STRICT, "net.c", "net_test.c", "-lm", "-o", "test")
    run(*build, at=tmp_path)
    printed = run("./test", at=tmp_path)
    assert printed.endswith("code 0: ok\n") and len(printed.splitlines()) == 9
    code = (tmp_path / "net.c").read_text()
    broken = re.sub(r"(net_golden_y\[\d+\] = \{\s*)", r"\g<1>1.0 + ", code)
    assert broken != code
    (tmp_path / "net.c").write_text(broken)
    run(*build, at=tmp_path)
    done = subprocess.run(["./test"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "FAILED" in done.stdout


@pytest.mark.parametrize("precision", PRECISIONS)
def test_self_tests_allow_what_rounding_does_to_a_row_and_no_more(tmp_path, precision):
    """sin(1e9·x^4), and 1/x next to its pole: there two right programs differ, elsewhere they do not."""
    chaotic = Kan(
        (make_layer(functions=[["x^4"]], affine=[[[1e9**0.25, 0.0, 1.0, 0.0]]]), make_layer(functions=[["sin"]]))
    )
    pole = Kan((make_layer(functions=[["1/x"]], affine=[[[1.0, -1.0001, 1.0, 0.0]]]),))
    library = compiled(tmp_path, {"chaotic": chaotic, "pole": pole}, precision)
    assert library.chaotic_selftest(None) == 0
    assert library.pole_selftest(None) == 0
    code = (tmp_path / "pole.c").read_text()
    sizes = re.search(r"pole_golden_scale\[8\] = \{(.*?)\}", code, re.DOTALL)
    assert sizes and max(float(word.strip().rstrip("f")) for word in sizes[1].split(",")) < 10


@pytest.mark.slow
@pytest.mark.extended
def test_cmake_builds_and_tests_it(tmp_path):
    for path, data in exporter.export(multiplication(), ExportOptions("net", "float")).items():
        (tmp_path / path).write_bytes(data)
    listing = (tmp_path / "CMakeLists.txt").read_text()
    assert "add_library(net STATIC net.c)" in listing and "add_test(NAME net_test COMMAND net_test)" in listing
    if runs("cmake"):  # not every machine has it; the text above is checked everywhere
        run("cmake", "-B", "build", at=tmp_path)
        run("cmake", "--build", "build", at=tmp_path)
        run("./build/net_test", at=tmp_path)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_builds_as_cpp_as_well(tmp_path, precision):
    kans = {
        "functions": ZOO["every_function"](),
        "net": classifier(),
        "hostile": hostile_names(),
        "flat": ZOO["constant"](),
    }
    for name, kan in kans.items():
        for path, data in exporter.export(kan, ExportOptions(name, precision)).items():
            (tmp_path / path).write_bytes(data)
        files = (f"{name}.c", f"{name}_test.c")
        strict = ("-x", "c++", "-std=c++17", "-pedantic", "-Wall", "-Wextra", "-Werror")
        run("g++", *strict, *files, "-o", name, at=tmp_path)
        assert "ok" in run(f"./{name}", at=tmp_path)


NASTY = """
#include "@.h"
#include <math.h>

int main(void)
{
    const double v[] = {0, -0.0, 0.5, 1e19, -1e10, 1e300, -1e300, 1e-310, NAN, INFINITY, -INFINITY};
    const int count = sizeof v/sizeof v[0];
    for (int n = 0; n < count*count; n++) {
        @_real x[@_N_IN], y[@_N_OUT];
        for (int i = 0; i < @_N_IN; i++) x[i] = (@_real)v[i % 2 ? n/count : n % count];
        const int code = @_predict(x, y);
        for (int q = 0; q < @_N_OUT; q++) if (!isfinite(y[q]) != (code != 0)) return 1;
        if (n % count >= 8 && code != -2) return 2;
        if (n % count < 3 && n/count < 3 && code != 0) return 3;
    }
    return 0;
}
"""


@pytest.mark.slow
@pytest.mark.extended
def test_undefined_behaviour_does_not_happen_on_nasty_rows(tmp_path):
    for name in ("uneven_knots", "fine", "outside_zero", "hostile_names"):
        for path, data in exporter.export(ZOO[name](), ExportOptions(name)).items():
            (tmp_path / path).write_bytes(data)
        (tmp_path / "main.c").write_text(NASTY.replace("@", name))
        sanitizers = ("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")
        run("gcc", "-std=c99", *sanitizers, f"{name}.c", "main.c", "-lm", "-o", "main", at=tmp_path)
        run("./main", at=tmp_path)


def test_fast_math_is_refused_unless_asked_for(tmp_path):
    for path, data in exporter.export(symbolic(), ExportOptions("net")).items():
        (tmp_path / path).write_bytes(data)
    for flag in ("-ffast-math", "-ffinite-math-only"):
        command = ["gcc", "-c", flag, "net.c"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode != 0 and "net_ALLOW_FAST_MATH" in done.stderr
        run(*command, "-Dnet_ALLOW_FAST_MATH", at=tmp_path)


def test_it_needs_libm_only_and_keeps_no_state(tmp_path):
    for path, data in exporter.export(ZOO["every_function"](), ExportOptions("net")).items():
        (tmp_path / path).write_bytes(data)
    run("gcc", *STRICT, "-O1", "-c", "net.c", "-Dnet_NO_SELFTEST", at=tmp_path)
    symbols = [line.split()[-2:] for line in run("nm", "net.o", at=tmp_path).splitlines()]
    libm = {
        "acos",
        "asin",
        "asinh",
        "atan",
        "atanh",
        "cos",
        "cosh",
        "erf",
        "exp",
        "log",
        "sin",
        "sincos",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
        "tgamma",
    }
    assert {name for kind, name in symbols if kind == "U"} <= libm | {"_GLOBAL_OFFSET_TABLE_"}
    assert {name for kind, name in symbols if kind in "TDBC"} == {"net_predict", "net_predict_batch", "net_info"}


def test_the_tables_can_be_placed_in_a_section(tmp_path):
    for path, data in exporter.export(one_edge(), ExportOptions("net")).items():
        (tmp_path / path).write_bytes(data)
    run("gcc", *STRICT, "-c", "net.c", '-Dnet_TABLE=__attribute__((section(".model")))', at=tmp_path)
    assert ".model" in run("objdump", "-h", "net.o", at=tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the levels are of x86-64")
def test_inner_loops_can_be_compiled_for_several_processors(tmp_path):
    """As README.md of an export says."""
    written(tmp_path, ZOO["wide"]())
    clones = '-Dnet_HOT=__attribute__((target_clones("arch=x86-64-v3","default")))'
    run("gcc", *STRICT, "-O2", clones, "-c", "net.c", at=tmp_path)
    assert "layer_0.arch_x86_64_v3" in run("nm", "net.o", at=tmp_path)


@pytest.mark.slow
@pytest.mark.extended
def test_the_names_of_models_and_features_never_become_code(tmp_path):
    names = (
        "*/ int main",
        "??/",
        "\\",
        '"',
        "'",
        "\n#error",
        "%s%n",
        "int",
        "math",
        "@predict",
        "$INFORMATION$",
        "{0}",
    )
    for number, name in enumerate(names):
        kan = Kan(one_edge().layers, inputs=(Variable(name, name),), outputs=(Variable(name + "y", name),))
        files = exporter.export(kan, ExportOptions(name))
        (prefix,) = (path.removesuffix(".h") for path in files if path.endswith(".h"))
        for path, data in files.items():
            (tmp_path / path).write_bytes(data)
        # -trigraphs, because -std=c99 has them.
        flags = (*STRICT, "-trigraphs", "-Wno-error=trigraphs", "-shared", "-fPIC", "-o", f"{number}.so", "-lm")
        run("gcc", f"{prefix}.c", *flags, at=tmp_path)
        function = getattr(ctypes.CDLL(str(tmp_path / f"{number}.so")), f"{prefix}_info")
        function.restype = ctypes.c_char_p
        information = json.loads(function())
        assert (information["name"], information["inputs"][0]["unit"]) == (name, name)


@pytest.mark.slow
def test_long_information_is_not_one_long_literal(tmp_path):
    names = [f"a feature with a rather long name, number {i}" for i in range(200)]
    kan = Kan((make_layer(functions=[["sin"] * 200]),), inputs=tuple(Variable(name) for name in names))
    library = compiled(tmp_path, {"net": kan}, "double")  # -pedantic warns of literals that C99 does not promise
    library.net_info.restype = ctypes.c_char_p
    assert [load["name"] for load in json.loads(library.net_info())["inputs"]] == names


def test_a_layer_of_600_edges_is_split_into_functions_of_at_most_200():
    code = exporter.export(all_symbolic(20, 30), ExportOptions("net"))["net.c"].decode()
    bodies = re.findall(r"static void net_layer_0_\d+\([^)]*\)\n\{\n(.*?)\n\}", code, re.DOTALL)
    counts = [len(re.findall(r"v\[\d+\]", body)) for body in bodies]
    assert counts == [200, 200, 200]


def test_layers_stay_layers_so_that_a_network_of_600_edges_is_a_small_file():
    # 50 KB is the goal for trained networks, whose shifts and scales are often neutral; here every constant is random.
    assert len(exporter.export(all_symbolic(5, 20, 20, 5), ExportOptions("net"))["net.c"]) < 54_000
