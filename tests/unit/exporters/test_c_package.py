import ctypes
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from kanserve.network import serialization
from kanserve.network.kan import Kan, Variable
from kanserve_exporters._shared.source_text import c_identifier, formula_lines
from tests.support.c_builds import run, written
from tests.support.cases import one_in
from tests.support.networks.kans import ZOO, classifier, hostile_names, mixed, one_edge, raw_features, symbolic
from tests.support.programs import needs

needs_cmake = needs("cmake")
needs_pkg_config = needs("pkg-config")

USER = '#include "@.h"\nint main(void) { return @_selftest(0); }\n'
PROJECT = """\
cmake_minimum_required(VERSION 3.14)
project(user C)
find_package(@ CONFIG REQUIRED)
add_executable(user user.c)
target_link_libraries(user PRIVATE @::@)
"""


def information(folder: Path, kan: Kan, name: str = "net") -> dict[str, Any]:
    written(folder, kan, name)
    prefix = c_identifier(name)
    run("gcc", "-std=c99", "-shared", "-fPIC", f"{prefix}.c", "-o", f"{prefix}.so", "-lm", at=folder)
    describe = getattr(ctypes.CDLL(str(folder / f"{prefix}.so")), f"{prefix}_info")
    describe.restype = ctypes.c_char_p
    text = describe()
    assert text.isascii() and text.decode().isprintable()
    read: dict[str, Any] = json.loads(text)
    return read


@pytest.mark.slow
@pytest.mark.extended
@needs_cmake
@pytest.mark.parametrize("fast", one_in(2, ["ON", "OFF"]))
def test_cmake_builds_tests_installs_and_is_found_again(tmp_path, fast):
    written(tmp_path / "source", mixed(), gradient=True)
    run("cmake", "-S", "source", "-B", "build", f"-Dnet_FAST={fast}", at=tmp_path)
    run("cmake", "--build", "build", at=tmp_path)
    assert "100% tests passed" in run("ctest", "--test-dir", "build", at=tmp_path)
    run("cmake", "--install", "build", "--prefix", str(tmp_path / "installed"), at=tmp_path)
    (tmp_path / "installed").rename(tmp_path / "moved")  # it may be
    user = tmp_path / "user"
    user.mkdir()
    (user / "user.c").write_text(USER.replace("@", "net"))
    (user / "CMakeLists.txt").write_text(PROJECT.replace("@", "net"))
    run("cmake", "-B", "build", f"-DCMAKE_PREFIX_PATH={tmp_path / 'moved'}", at=user)
    run("cmake", "--build", "build", at=user)
    run("./build/user", at=user)


@pytest.mark.slow
@pytest.mark.extended
@needs_cmake
@needs_pkg_config
def test_pkg_config_gives_the_flags_of_what_is_installed(tmp_path):
    written(tmp_path, symbolic(), precision="float")
    run("cmake", "-B", "build", "-DBUILD_TESTING=OFF", "-DCMAKE_INSTALL_LIBDIR=lib/deep", at=tmp_path)
    run("cmake", "--build", "build", at=tmp_path)
    run("cmake", "--install", "build", "--prefix", str(tmp_path / "there"), at=tmp_path)
    where = str(tmp_path / "there" / "lib" / "deep" / "pkgconfig")
    flags = run("pkg-config", "--cflags", "--libs", "net", at=tmp_path, PKG_CONFIG_PATH=where).split()
    (tmp_path / "user.c").write_text(USER.replace("@", "net"))
    run("gcc", "user.c", *flags, "-o", "user", at=tmp_path)
    run("./user", at=tmp_path)
    assert "of shape [2, 1, 1]" in (tmp_path / "there/lib/deep/pkgconfig/net.pc").read_text()
    run("pkg-config", "--validate", "net", at=tmp_path, PKG_CONFIG_PATH=where)


@pytest.mark.slow
@pytest.mark.extended
@needs_cmake
def test_models_named_like_targets_libraries_and_macros_build(tmp_path):
    for name in ("test", "m", "linux"):
        written(tmp_path / name, one_edge(), name)
        run("cmake", "-B", "build", at=tmp_path / name)
        run("cmake", "--build", "build", at=tmp_path / name)
        run(f"./build/{c_identifier(name)}_test", at=tmp_path / name)


@pytest.mark.slow
@pytest.mark.extended
def test_any_name_of_a_model_builds(tmp_path):
    words = ("sin", "main", "errno", "_x", "int", "class", "template", "linux", "typeof", "co_await", "__init__", "9")
    for name in (*words, "I", "größe", "", "x\n#error", "../up", "a" * 300):
        written(tmp_path, one_edge(), name)
        prefix = c_identifier(name)
        for compiler in (("gcc", "-std=gnu99"), ("g++", "-x", "c++", "-std=gnu++17")):  # of which gnu has more macros
            run(*compiler, "-Wall", "-Werror", "-fsyntax-only", f"{prefix}.c", f"{prefix}_test.c", at=tmp_path)


def test_the_readme_has_the_formula_and_the_builds(tmp_path):
    written(tmp_path, symbolic())
    text = (tmp_path / "README.md").read_text()
    assert "    y = exp(sin(3.14159*x) + y^2)\n" in text
    assert "-Dnet_FAST -O3 -march=native -ffp-contract=fast" in text and "gradient" not in text
    written(tmp_path, symbolic(), gradient=True)
    assert "`net_gradient(x, dy_dx)`" in (tmp_path / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.extended
def test_the_information_names_all_that_the_network_is(tmp_path):
    for name in ("raw_features", "classifier", "symbolic"):
        kan = ZOO[name]()
        found = information(tmp_path, kan, name)
        assert found["name"] == name and found["precision"] == "double" and found["shape"] == list(kan.shape)
        for ours, theirs in ((found["inputs"], kan.inputs), (found["outputs"], kan.outputs)):
            assert [(variable["name"], variable["unit"]) for variable in ours] == [
                (their.name, their.unit) for their in theirs
            ]
        assert found["classes"] == list(kan.classes)
        lines = formula_lines(kan)
        assert found["formula"] == lines or (sum(map(len, lines)) > 2000 and "README" in found["formula"][0])
        assert found["kan_sha256"] == hashlib.sha256(serialization.dumps(kan)).hexdigest()
    first = information(tmp_path, raw_features(), "other")["inputs"][0]
    assert first == {"name": "temperature", "unit": "K", "low": 290.0, "high": 310.0}
    assert information(tmp_path, classifier(), "other2")["inputs"][0]["low"] is None


@pytest.mark.slow
def test_the_information_of_a_large_network_does_not_fill_a_small_memory_and_can_be_left_out(tmp_path):
    written(tmp_path, ZOO["deep"]())
    run("gcc", "-std=c99", "-c", "net.c", at=tmp_path)
    size = re.search(r"([0-9a-f]+) r net_information", run("nm", "-S", "net.o", at=tmp_path))
    assert size and int(size[1], 16) < 2500
    run("gcc", "-std=c99", "-Wall", "-Werror", "-Dnet_NO_INFO", "-c", "net.c", at=tmp_path)
    assert "info" not in run("nm", "net.o", at=tmp_path)


@pytest.mark.slow
def test_the_information_is_json_whatever_the_names_are(tmp_path):
    kan = hostile_names()
    assert [variable["name"] for variable in information(tmp_path, kan)["inputs"]] == [
        variable.name for variable in kan.inputs
    ]
    odd = Kan(one_edge().layers, inputs=(Variable("\u2028 \x7f \t \U0001f600 \\u0041 </script>"),))
    assert information(tmp_path, odd, "odd")["inputs"][0]["name"] == odd.inputs[0].name
