import re
from pathlib import Path

import pytest

from kanserve.network.kan import Kan, Variable
from tests.support.c_builds import CPP, WARNINGS, C, run, written
from tests.support.networks.kans import ZOO, classifier, mixed, one_edge

LANGUAGES = pytest.mark.parametrize("compiler", [C, CPP], ids=["c99", "c++17"])


def build(folder: Path, compiler: tuple[str, ...], *sources: str) -> str:
    run(*compiler, *sources, "-lm", "-o", "program", at=folder)
    return run("./program", at=folder)


def test_each_form_has_its_files_and_no_others(tmp_path):
    beside = {"net_test.c", "README.md"}
    assert written(tmp_path, mixed(), c_form="files") == {"net.h", "net.c", "CMakeLists.txt", "net.pc.in", *beside}
    assert written(tmp_path, mixed(), c_form="single_file") == {"net.c", *beside}
    assert written(tmp_path, mixed(), c_form="header_only") == {"net.h", *beside}


@pytest.mark.slow
@pytest.mark.extended
@LANGUAGES
@pytest.mark.parametrize("form", ["single_file", "header_only"])
def test_the_test_program_needs_one_file_only(tmp_path, compiler, form):
    for name, precision in (("classifier", "double"), ("every_function", "float"), ("hostile_names", "float")):
        written(tmp_path, ZOO[name](), c_form=form, precision=precision, gradient=True)
        assert build(tmp_path, compiler, "net_test.c").endswith("code 0: ok\n")


@pytest.mark.slow
def test_a_single_file_is_compiled_by_itself_or_included(tmp_path):
    written(tmp_path, one_edge(), c_form="single_file")
    run(*C, "-c", "net.c", at=tmp_path)
    assert "T net_predict\n" in run("nm", "net.o", at=tmp_path)
    (tmp_path / "main.c").write_text(
        '#include <math.h>\n#include "net.c"\n'
        "int main(void) { double x = 0.3, y; return net_predict(&x, &y) != net_OK || !isfinite(y); }\n"
    )
    for compiler in (C, CPP):
        build(tmp_path, compiler, "main.c")


@pytest.mark.slow
@LANGUAGES
def test_a_header_goes_into_two_units_of_one_program(tmp_path, compiler):
    written(tmp_path, classifier(), c_form="header_only", gradient=True)
    (tmp_path / "one.c").write_text(
        '#include "net.h"\n#define net_IMPLEMENTATION\n#include "net.h"\n#include "net.h"\n'
    )
    (tmp_path / "two.c").write_text(
        '#include "net.h"\n#include "net.h"\n'
        "int main(void)\n{\n    double x[net_N_IN] = {0.1, 0.2}, y[net_N_OUT], d[net_N_OUT*net_N_IN];\n"
        "    return net_predict(x, y) != net_OK || net_gradient(x, d) != net_OK || net_selftest(0) != net_OK;\n}\n"
    )
    build(tmp_path, compiler, "one.c", "two.c")


def test_a_header_of_c_serves_a_program_in_cpp(tmp_path):
    written(tmp_path, one_edge(), c_form="header_only")
    (tmp_path / "one.c").write_text('#define net_IMPLEMENTATION\n#include "net.h"\n')
    (tmp_path / "two.cpp").write_text('#include "net.h"\nint main() { return net_selftest(nullptr); }\n')
    run(*C, "-c", "one.c", at=tmp_path)
    run("g++", "-std=c++17", *WARNINGS, "two.cpp", "one.o", "-lm", "-o", "program", at=tmp_path)
    run("./program", at=tmp_path)


@pytest.mark.slow
def test_two_networks_in_one_unit_do_not_meet(tmp_path):
    for form, ending in (("single_file", "c"), ("header_only", "h")):
        written(tmp_path, mixed(), "one", c_form=form)
        written(tmp_path, ZOO["uneven_knots"](), "two", c_form=form)
        (tmp_path / "main.c").write_text(
            f"#define one_IMPLEMENTATION\n#define two_IMPLEMENTATION\n"
            f'#include "one.{ending}"\n#include "two.{ending}"\n'
            "int main(void) { return one_selftest(0) || two_selftest(0); }\n"
        )
        build(tmp_path, C, "main.c")


@pytest.mark.slow
@pytest.mark.extended
def test_the_forms_compute_the_same_bits(tmp_path):
    """The same rows by the same code: the test programs print 17 digits."""
    printed = []
    for form in ("files", "single_file", "header_only"):
        folder = tmp_path / form
        folder.mkdir()
        written(folder, ZOO["deep"](), c_form=form)
        sources = ["net.c", "net_test.c"] if form == "files" else ["net_test.c"]
        printed.append(build(folder, C, "-ffp-contract=off", *sources))
    assert printed[0] == printed[1] == printed[2]


def test_names_that_look_like_the_forms_own_marks_stay_text(tmp_path):
    marks = ('#include "net.h"\n', "$INFORMATION$", "@@", "#endif", "$FORMULA$", "$AT$")
    kan = Kan(
        ZOO["hostile_names"]().layers,
        inputs=tuple(Variable(mark, mark) for mark in marks),
        outputs=tuple(Variable(f"{mark}.") for mark in marks[:3]),
    )
    for form in ("single_file", "header_only"):
        written(tmp_path, kan, c_form=form)
        assert "ok" in build(tmp_path, C, "net_test.c")


@pytest.mark.slow
@pytest.mark.extended
def test_the_readme_of_each_form_builds(tmp_path):
    """The commands it gives, as they stand there, but for the make tool's and those that write to the system."""
    for form in ("files", "single_file", "header_only"):
        folder = tmp_path / form
        folder.mkdir()
        written(folder, mixed(), c_form=form)
        commands = re.findall(r"^    (cc .*)$", (folder / "README.md").read_text(), re.MULTILINE)
        assert commands
        for command in commands:
            run("sh", "-ec", command, at=folder)
