"""The compiled kernels: built where there is a compiler, left out without a word where there is none."""

import ctypes
import logging
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kanserve import native
from kanserve.native import build
from tests.support.faults import native_sanitized
from tests.support.paths import ROOT

SERVER = ("server", "edge", "http1")  # folders
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wvla", "-Werror", "-fsyntax-only")


def test_an_install_where_there_is_a_compiler_has_the_kernels():
    # What CI runs on has one, so that both paths are tested there.
    assert (native.library() is not None) == (build.compiler() is not None)


def test_the_kernels_can_be_turned_off_for_a_while():
    with native.disable_kernels():
        assert native.library() is None
    assert (native.library() is None) == (build.compiler() is None)


def test_the_kernels_compile_without_a_warning_and_put_no_array_of_unknown_size_on_the_stack():
    sources = [str(path) for path in build.FOLDER.rglob("*.c") if path.parent.name not in ("onnxruntime", *SERVER)]
    strict = [*WARNINGS, "-pthread", "-O1"]
    for level in ((), ("-march=x86-64-v3",)) if platform.machine() == "x86_64" else ((),):
        subprocess.run([build.compiler() or "cc", *strict, *level, *sources], check=True, capture_output=True)


@pytest.mark.extended
@pytest.mark.skipif(not build.server_headers(), reason="needs libnghttp2-dev")
def test_the_native_transport_compiles_without_a_warning():
    sources = [str(path) for path in build.FOLDER.rglob("*.c") if path.parent.name in SERVER]
    if not build.http1_headers():
        sources = [path for path in sources if "http1" not in path]
    command = [build.compiler() or "cc", *WARNINGS, "-Wshadow", f"-I{build.FOLDER / 'server'}"]
    assert len(sources) > 15
    subprocess.run([*command, *sources], check=True, capture_output=True)


@pytest.mark.extended
@pytest.mark.exhaustive  # of some tests; `python -m tests.support.faults.native_sanitized` takes all
def test_the_kernels_of_training_stay_within_their_memory(tmp_path: Path):
    kernels = "normal_equations or number_of_threads or several_blocks"
    done = native_sanitized.run(tmp_path, "tests/unit/native/test_least_squares.py", "-k", kernels)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the flags of the processor are not listed")
@pytest.mark.parametrize("platform_tag", ["", "manylinux_2_17_x86_64"])
def test_the_best_build_for_the_processor_is_found_whatever_compiled_it(
    platform_tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if platform.machine() != "x86_64":
        pytest.skip("there are several builds on x86-64 only")
    if platform_tag:
        pytest.importorskip("ziglang", reason="ziglang compiles the wheels that are published")
    shutil.copy(build.FOLDER / "processor.c", tmp_path)
    monkeypatch.setenv("KANSERVE_PLATFORM", platform_tag)
    generic, *_ = build.build(tmp_path)
    flags = set(re.findall(r"\w+", re.findall(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[0]))
    third = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"} <= flags
    fourth = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags
    assert ctypes.CDLL(str(generic)).kanserve_x86_level() == (2 if not third else 4 if fourth else 3)


@pytest.mark.parametrize(
    ("setting", "words"), [("0", "turned off by KANSERVE_NATIVE=0"), ("1", "Using the compiled kernels for")]
)
def test_one_log_line_says_which_way_numbers_are_made(setting: str, words: str):
    script = (
        "import logging; logging.basicConfig(level='INFO'); from kanserve.native import library; library(); library()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"KANSERVE_NATIVE": setting, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


def test_a_source_that_does_not_compile_says_why_and_leaves_the_old_library(tmp_path: Path):
    shutil.copy(build.FOLDER / "processor.c", tmp_path)
    source = tmp_path / "kernel.c"
    source.write_text("int kanserve_one(void) { return 1; }\n")
    made = {path: path.read_bytes() for path in build.build(tmp_path)}
    source.write_text("int kanserve_one(void) { return nothing; }\n")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        build.build(tmp_path)
    assert "nothing" in failed.value.stderr
    assert {path: path.read_bytes() for path in made} == made
    assert {path.name for path in tmp_path.iterdir()} == {"kernel.c", "processor.c", *(path.name for path in made)}


def test_a_build_for_this_machine_alone_makes_the_library_that_is_loaded_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copy(build.FOLDER / "processor.c", tmp_path)
    every = {path.name for path in build.build(tmp_path)}
    for path in tmp_path.glob("*.so"):
        path.unlink()
    processor, library = build.build(tmp_path, here=True)
    assert {processor.name, library.name} <= every
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    native._load.cache_clear()
    try:
        loaded = native.library()
        assert loaded is not None and loaded._name == str(library)
        library.rename(tmp_path / "libkanserve-x86-64-v9.so")  # which this processor may not have
        native._load.cache_clear()
        assert native.library() is None
    finally:
        native._load.cache_clear()


def test_without_the_header_of_onnxruntime_there_are_kernels_and_no_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KANSERVE_ONNXRUNTIME_HEADERS", str(tmp_path))
    assert build.headers() is None
    with pytest.raises(OSError, match="libonnxruntime-dev"):
        build.build_operators(tmp_path)
    (tmp_path / build.HEADER).touch()
    assert build.headers() == tmp_path


def test_operators_that_do_not_compile_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KANSERVE_ONNXRUNTIME_HEADERS", str(tmp_path))
    (tmp_path / build.HEADER).touch()
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "operator.c").write_text("int one(void) { return nothing; }\n")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        build.build_operators(tmp_path)
    assert "nothing" in failed.value.stderr
    assert not list(tmp_path.glob("*.so"))


@pytest.mark.slow
@pytest.mark.extended
def test_without_a_compiler_the_package_is_pure_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("kanserve", "exporters", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    monkeypatch.setenv("CC", "a-compiler-that-is-not-there")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "dist"),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Without compiled kernels, kanserve trains slower" in done.stdout + done.stderr
    wheel = next((tmp_path / "dist").glob("*.whl"))
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]


def test_the_log_is_silent_unless_somebody_listens(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="kanserve"):
        native._load.cache_clear()
        native.library()
    assert caplog.records == []
