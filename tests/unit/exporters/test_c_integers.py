import re
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import kanserve as ks
from kanserve.errors import ExportError, InputError
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan, Variable
from kanserve_exporters import c_source, numpy_source
from kanserve_exporters._integers import fixed_point as module
from kanserve_exporters._integers.fixed_point import fixed_point, weight_error, weights_of
from tests.support.c_builds import CPP, SANITIZED, STRICT, WARNINGS, C, run, written
from tests.support.networks.kans import ZOO
from tests.support.programs import needs, want

ARITHMETIC = ("-Wconversion", "-Wsign-conversion")
# Nothing bounds these between the rows of a table: poles and jumps within the ranges, or functions that our interval
# arithmetic has no bounds of.
UNBOUNDED = {"every_function", "special", "domains"}


def ranged(kan: Kan) -> Kan:
    """The network with training ranges, where it has none, in which most functions are defined."""
    inputs = [
        one if one.categories or np.isfinite([one.low, one.high]).all() else replace(one, low=0.2, high=0.9)
        for one in kan.inputs
    ]
    return replace(kan, inputs=tuple(inputs))


def sampled(kan: Kan, made, count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Raw rows within the training ranges and their codes."""
    rng, columns, codes = np.random.default_rng(1), [], []
    for variable, scale in zip(kan.inputs, made.inputs, strict=True):
        if variable.categories:
            raw = rng.integers(len(variable.categories), size=count).astype(float)
            seen = np.array(variable.category_values)[raw.astype(int)]
        else:
            raw = seen = np.concatenate(
                [[variable.low, variable.high], rng.uniform(variable.low, variable.high, count - 2)]
            )
        columns.append(raw)
        codes.append(np.clip(np.rint((seen - scale.low) / scale.step), 0, 65535).astype(np.int64))
    return np.stack(columns, axis=1), np.stack(codes, axis=1)


def numbers(made, codes: np.ndarray) -> np.ndarray:
    return np.stack([one.low + codes[:, n] * one.step for n, one in enumerate(made.outputs)], axis=1)


def group(pattern: str, text: str) -> str:
    """What the group of a pattern is in a text."""
    found = re.search(pattern, text, re.DOTALL)
    assert found, pattern
    return found[1]


def by_c(folder: Path, codes: np.ndarray) -> np.ndarray:
    """What the test program of `net` in a folder gives for rows of codes."""
    text = "\n".join(" ".join(map(str, row)) for row in codes.tolist())
    done = subprocess.run(["./program", "-"], cwd=folder, input=text, capture_output=True, text=True, check=True)
    return np.array([line.split() for line in done.stdout.splitlines()], int)


@cache
def fitted() -> Kan:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (1000, 4))
    y = np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2) * 0.3 + x[:, 2] * x[:, 3]
    return ks.fit([4, 10, 1], (x, y), starts=1, steps=20)


def test_four_weights_are_those_of_a_cubic_spline():
    weights = np.array(weights_of(np.arange(65536)))
    assert (weights.sum(axis=0) == 65536).all()
    assert weights.min() >= 0
    assert weight_error() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("word", ["int16", "int8"])
@pytest.mark.parametrize("name", sorted(set(ZOO) - UNBOUNDED))
def test_the_bound_holds_on_the_zoo(name, word):
    kan = ranged(ZOO[name]())
    made = fixed_point(kan, word)
    x, codes = sampled(kan, made)
    assert (np.abs(numbers(made, made(codes)) - evaluate(kan, x)).max(axis=0) <= made.bounds).all()
    assert np.isfinite(made.bounds).all()


@pytest.mark.parametrize("name", sorted(UNBOUNDED))
def test_what_has_no_bound_is_refused(name):
    with pytest.raises(ExportError, match="has no bound between"):
        fixed_point(ranged(ZOO[name]()), "int16")


@pytest.mark.parametrize(("word", "measured", "proven"), [("int16", 1e-3, 2e-3), ("int8", 2e-2, 1e-1)])
def test_a_fitted_network_is_exact_to_the_word(word, measured, proven):
    kan = fitted()
    made = fixed_point(kan, word)
    x, codes = sampled(kan, made)
    size = np.ptp(evaluate(kan, x))
    error = np.abs(numbers(made, made(codes)) - evaluate(kan, x)).max()
    assert error < measured * size
    assert error < made.bounds[0] < proven * size
    assert made.table_bytes < 4000


def test_splines_on_even_grids_are_taken_as_they_are():
    layer = ks.make_layer(np.random.default_rng(0).normal(size=(2, 1, 8)), base="zero")
    kan = Kan((layer,), (Variable("x", low=-1, high=1),))
    made = fixed_point(kan, "int16")
    assert made.layers[0].intervals == (5,)
    assert (made.bounds < 3e-4).all()


def test_a_jump_is_met_by_as_fine_a_grid_as_there_is():
    kan = ks.from_formula("sign(x - 0.3)", ranges={"x": (-1, 1)})
    made = fixed_point(kan, "int16")
    x, codes = sampled(kan, made)
    assert made.layers[0].intervals[0] > 100
    assert (np.abs(numbers(made, made(codes)) - evaluate(kan, x)).max(axis=0) <= made.bounds).all()


@pytest.mark.parametrize("name", ["deep", "orders", "missing_values"])
def test_the_bound_holds_on_few_cells_as_wide_layers_have_them(monkeypatch, name):
    kan = ranged(ZOO[name]())
    plain = fixed_point(kan, "int16").bounds
    monkeypatch.setattr(module, "MOST_CELLS", 64)
    made = fixed_point(kan, "int16")
    x, codes = sampled(kan, made)
    assert (np.abs(numbers(made, made(codes)) - evaluate(kan, x)).max(axis=0) <= made.bounds).all()
    assert (made.bounds >= plain * 0.99).all()


@pytest.mark.slow
@pytest.mark.parametrize("word", ["int16", "int8"])
@pytest.mark.parametrize("name", ["classifier", "multiplication", "categories", "missing_values", "orders", "log_link"])
def test_c_gives_the_same_bits(tmp_path, name, word):
    kan = ranged(ZOO[name]())
    written(tmp_path, kan, precision=word)
    run("gcc", *STRICT, *ARITHMETIC, *SANITIZED, "-O1", "net.c", "net_test.c", "-o", "program", at=tmp_path)
    made = fixed_point(kan, word)
    codes = np.random.default_rng(2).integers(0, 65536, (500, kan.shape[0]))
    codes[:2] = [[0], [65535]]
    assert (by_c(tmp_path, codes) == made(codes)).all()
    run("./program", at=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["single_file", "header_only"])
@pytest.mark.parametrize("compiler", [C, CPP], ids=["c99", "c++17"])
def test_each_form_is_compiled(tmp_path, form, compiler):
    written(tmp_path, ranged(ZOO["categories"]()), precision="int8", c_form=form)
    run(*compiler, "net_test.c", "-o", "program", at=tmp_path)
    run("./program", at=tmp_path)


def test_a_row_needs_no_floating_point_and_no_division(tmp_path):
    written(tmp_path, ranged(ZOO["multiplication"]()), precision="int16")
    code = re.sub(r"/\*.*?\*/", "", (tmp_path / "net.c").read_text(), flags=re.DOTALL)
    assert not re.search(r"\bfloat\b|\bdouble\b|[^/*]/[^/*]|%|malloc|math\.h", code)
    assert "#include" in code


def test_a_changed_table_fails_its_own_test(tmp_path):
    written(tmp_path, fitted(), precision="int16")
    code = (tmp_path / "net.c").read_text()
    table = group(r"net_coefficients_1\[\] = \{(.*?)\};", code)
    (tmp_path / "net.c").write_text(code.replace(table, ", ".join(str(int(n) // 2) for n in table.split(","))))
    run("gcc", "-std=c99", *WARNINGS, "net.c", "net_test.c", "-o", "program", at=tmp_path)
    assert subprocess.run(["./program"], cwd=tmp_path, check=False).returncode == 1


def test_a_tolerance_chooses_the_word_and_the_grids():
    texts = {}
    for tolerance in (0.2, 0.01, 0.002):
        files = c_source.export(fitted(), ExportOptions("net", tolerance=tolerance))
        texts[tolerance] = files["README.md"].decode()
    bits = [group(r"coefficients have (\d+) bits", text) for text in texts.values()]
    sizes = [int(group(r"have (\d+) bytes", text)) for text in texts.values()]
    assert bits == ["8", "16", "16"]
    assert sizes == sorted(sizes)
    for tolerance, text in texts.items():
        assert float(group(r"\n\| 0 \| \S+ \| (\S+) \|", text)) <= tolerance


def test_what_cannot_be_is_refused(tmp_path):
    kan = ks.from_formula("exp(-x^2)", ranges={"x": (-2, 2)})
    for options, words in (
        ({"tolerance": 1e-6}, "only proven to be at most"),
        ({"precision": "int16", "gradient": True}, "has no gradient"),
    ):
        with pytest.raises(ExportError, match=words):
            written(tmp_path, kan, **options)
    for tolerance in (0, 1, "x", True):
        with pytest.raises(InputError, match="tolerance must be"):
            ExportOptions(tolerance=tolerance)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="x has no training range"):
        written(tmp_path, replace(kan, inputs=(Variable("x"),)), precision="int16")
    with pytest.raises(ExportError, match="has no bound between"):
        written(tmp_path, ks.from_formula("1/x", ranges={"x": (-1, 1)}), precision="int16")
    with pytest.raises(ExportError, match="Only C computes in integers"):
        numpy_source.export(kan, ExportOptions(precision="int16"))
    with pytest.raises(InputError, match="choose the format c_source alone, without numpy_source"):
        kan.export(tmp_path / "numpy", ["numpy_source"], precision="int16")
    with pytest.raises(InputError, match="An artifact computes in double or float"):
        ks.compile(kan, ["c_source"], options=ExportOptions(precision="int16"))


@needs("gcc")
def test_an_export_in_integers_is_written_and_says_its_bound(tmp_path):
    files = fitted().export(tmp_path / "law", ["c_source"], name="law", precision="int16")
    names = sorted(path.name for path in files)
    assert names == ["CMakeLists.txt", "README.md", "law.c", "law.h", "law_test.c", "module.yml"]
    header = (tmp_path / "law" / "c_source" / "law.h").read_text()
    bound, measured = (float(group(rf"law_Y0_{name} \((\S+)\)", header)) for name in ("BOUND", "MEASURED"))
    assert 0 < measured < bound


# What Zephyr's own build defines, by plain CMake.
ZEPHYR = """
cmake_minimum_required(VERSION 3.20)
project(board C)
function(zephyr_library_named name)
  add_library(${name} STATIC)
  set(ZEPHYR_CURRENT_LIBRARY ${name} PARENT_SCOPE)
endfunction()
function(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGV})
endfunction()
function(zephyr_include_directories)
  get_filename_component(folder ${ARGV0} ABSOLUTE)
  target_include_directories(${ZEPHYR_CURRENT_LIBRARY} PUBLIC ${folder})
endfunction()
file(READ law/zephyr/module.yml module)
if(NOT module MATCHES "cmake: zephyr")
  message(FATAL_ERROR "The module names no folder of CMake's.")
endif()
add_subdirectory(law/zephyr)
add_executable(application law/law_test.c)
target_link_libraries(application law)
"""


@pytest.mark.slow
@pytest.mark.extended
def test_zephyr_builds_the_folder_as_a_module(tmp_path):
    want("cmake")
    written(tmp_path / "law", fitted(), "law", precision="int16")
    (tmp_path / "CMakeLists.txt").write_text(ZEPHYR)
    run("cmake", "-B", "build", ".", at=tmp_path)
    run("cmake", "--build", "build", at=tmp_path)
    run("build/application", at=tmp_path)


def test_names_of_users_cannot_leave_their_comments(tmp_path):
    written(tmp_path, ranged(ZOO["hostile_names"]()), precision="int8")
    run("gcc", *STRICT, "net.c", "net_test.c", "-o", "program", at=tmp_path)
    run("./program", at=tmp_path)
