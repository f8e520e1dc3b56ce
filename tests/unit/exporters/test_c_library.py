"""The backend of the C source: builds a library for this machine and runs it."""

import errno
import os
import platform
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kanserve.errors import DataError, ExportError, FormatError, InputError, NotFoundError
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan, make_layer
from kanserve.network.splines import uniform_knots
from kanserve.network.training_range import sample
from kanserve.runtime import _c_levels as levels
from kanserve.runtime import c_backend as runtime
from kanserve.runtime import c_compilers
from kanserve_exporters import c_source as exporter
from tests.support.agreement import assert_agrees, eager_float32
from tests.support.networks.kans import ZOO, mixed, one_edge, rows


@pytest.fixture(scope="module")
def files():
    made = exporter.export(mixed(), ExportOptions("net"))
    return {**made, **runtime.build(made)}


@pytest.mark.slow
@pytest.mark.extended
def test_the_backend_agrees_with_the_reference_for_any_rows_given(files):
    backend, x = runtime.load(files), rows(mixed())
    want = evaluate(mixed(), x)
    assert (backend.inputs, backend.outputs, backend.dtype) == (2, 1, np.dtype(np.float64))
    assert_agrees(backend.predict(x), want)
    assert_agrees(backend.predict(np.asfortranarray(x)), want)
    assert_agrees(backend.predict(np.repeat(x, 2, axis=0)[::2]), want)
    assert_agrees(backend.predict(x.astype(np.float32)), evaluate(mixed(), x.astype(np.float32)))
    assert backend.predict(x[:0]).shape == (0, 1)
    with pytest.raises(DataError, match=r"\(N, 2\), got \(3, 5\)"):
        backend.predict(np.zeros((3, 5)))


@pytest.mark.slow
@pytest.mark.extended
def test_the_backend_of_a_float_model_answers_in_float_and_stays_quiet():
    made = exporter.export(mixed(), ExportOptions("net", "float"))
    backend = runtime.load({**made, **runtime.build(made)})
    got = backend.predict(np.array([[1e300, 0.0], [0.1, 0.2]]))
    assert got.dtype == backend.dtype == np.float32
    assert np.isnan(got[0]).all() and np.isfinite(got[1]).all()


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name, highest", [("wide", 1), ("wide", 2), ("uneven_zero", 1), ("uneven_zero", 2)])
def test_older_processors_of_which_this_is_none_get_the_numbers_of_the_reference(name, highest, monkeypatch):
    kan = ZOO[name]()
    made, x = exporter.export(kan, ExportOptions("net")), rows(kan)
    monkeypatch.setattr(levels, "LEVELS", levels.LEVELS[:highest])
    assert_agrees(runtime.load({**made, **runtime.build(made)}).predict(x), evaluate(kan, x))


@pytest.mark.slow
@pytest.mark.extended
def test_large_tables_are_in_a_library_once(monkeypatch):
    rng = np.random.default_rng(0)
    kan = Kan((make_layer(rng.normal(size=(60, 50, 8)), knots=uniform_knots(-1, 1, 5, 3)),))
    made = exporter.export(kan, ExportOptions("net"))
    library = runtime.build(made)
    assert_agrees(runtime.load({**made, **library}).predict(rows(kan)), evaluate(kan, rows(kan)))
    monkeypatch.setattr(levels, "LEVELS", levels.LEVELS[:1])
    assert size(library) < 1.5 * size(runtime.build(made))


def size(library):
    return len(library[runtime.library_name()])


@pytest.mark.slow
@pytest.mark.extended
def test_a_compiler_that_knows_no_levels_builds_the_plain_source(files, monkeypatch, tmp_path):
    compiler = tmp_path / "old"
    compiler.write_text('#!/bin/sh\ncase "$*" in *march*|*FAST*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    library = runtime.build(files, str(compiler))
    assert b"predict_v3" not in library[runtime.library_name()]
    assert_agrees(runtime.load({**files, **library}).predict(rows(mixed())), evaluate(mixed(), rows(mixed())))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the levels are those of x86-64")
def test_all_public_functions_go_to_the_level_of_the_processor(monkeypatch):
    made = exporter.export(ZOO["classifier"](), ExportOptions("net"))
    names = {name for _, name, _ in levels.public(made["net.h"].decode(), "net")}
    assert names >= {"predict", "predict_batch", "predict_proba", "info", "selftest", "golden"}
    library = runtime.build(made)[runtime.library_name()]
    for name in names:
        assert f"net_{name}_v4".encode() in library


FUNCTIONS = ["symbolic", "every_function", "special", "domains"]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("precision", ["double", "float"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_vector_math_agrees_with_the_reference_row_by_row(name, precision):
    kan = ZOO[name]()
    made = exporter.export(kan, ExportOptions("net", precision, vector_math=True))
    backend = runtime.load({**made, **runtime.build(made, vector_math=True)})
    x = np.resize(rows(kan), (1001, kan.shape[0]))  # the last tile is not full
    eager = eager_float32(kan, x) if precision == "float" else None
    for some in (x, x[:3], x[:17]):
        got = backend.predict(some)
        assert_agrees(got, evaluate(kan, some), eager=None if eager is None else eager[: len(some)])


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or platform.machine() != "x86_64", reason="libmvec is glibc's")
def test_vector_math_calls_the_functions_of_vectors_for_who_asks():
    made = exporter.export(ZOO["symbolic"](), ExportOptions("net", vector_math=True))
    name = runtime.library_name()
    assert b"_ZGVdN4v_sin" in runtime.build(made, vector_math=True)[name]
    assert b"_ZGV" not in runtime.build(made)[name]
    assert b"VECTOR_MATH" not in exporter.export(ZOO["symbolic"](), ExportOptions("net"))["net.c"]


def test_without_functions_of_vectors_the_library_is_built_all_the_same(monkeypatch, tmp_path):
    kan = ZOO["symbolic"]()
    made = exporter.export(kan, ExportOptions("net", vector_math=True))
    compiler = tmp_path / "old"
    compiler.write_text('#!/bin/sh\ncase "$*" in *VECTOR_MATH*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    library = runtime.build(made, str(compiler), vector_math=True)
    assert_agrees(runtime.load({**made, **library}).predict(rows(kan)), evaluate(kan, rows(kan)))


@pytest.mark.extended
def test_one_row_is_the_same_row_as_in_a_batch_in_every_layout_and_type(files):
    backend, x = runtime.load(files), rows(mixed())
    want = backend.predict(x)
    for given in (x, np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x.astype(">f8")):
        got = [backend.predict(given[n : n + 1]) for n in range(len(x))]
        assert all(array.shape == (1, 1) and array.dtype == np.float64 and array.flags.owndata for array in got)
        np.testing.assert_allclose(np.concatenate(got), want, rtol=1e-13)
    fixed = x[:1].copy()
    fixed.flags.writeable = False
    assert_agrees(backend.predict(fixed), want[:1])
    for shape in ((1, 3), (2,), (1, 2, 1)):
        with pytest.raises(DataError):
            backend.predict(np.zeros(shape))


@pytest.mark.extended
def test_threads_that_ask_for_single_rows_get_their_own(files):
    backend, x = runtime.load(files), sample(mixed(), 64)
    want = [backend.predict(x[n : n + 1]) for n in range(len(x))]
    wrong: list[int] = []

    def work(first):
        for n in [*range(first, len(x)), *range(first)] * 20:
            if not np.array_equal(backend.predict(x[n : n + 1]), want[n]):
                wrong.append(n)

    together(work)
    assert not wrong


@pytest.mark.extended
def test_threads_share_a_backend(files):
    backend, x = runtime.load(files, threads=4), sample(mixed(), 20_000)
    want = backend.predict(x)
    wrong: list[int] = []

    def work(_):
        wrong.extend(number for number in range(5) if not np.array_equal(backend.predict(x), want))

    together(work)
    assert not wrong


def together(work):
    threads = [threading.Thread(target=work, args=(16 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.slow
@pytest.mark.extended
def test_a_library_loaded_after_another_was_dropped_is_not_the_old_one(files):
    # The loader takes libraries of one path for the same, and memory files have paths that come again.
    other = exporter.export(one_edge(), ExportOptions("net"))
    other = {**other, **runtime.build(other)}
    kept = []
    for _ in range(20):
        first, second = runtime.load(files), runtime.load(other)
        assert (first.inputs, second.inputs) == (2, 1)
        kept.append(second)
    assert_agrees(kept[0].predict(rows(one_edge())), evaluate(one_edge(), rows(one_edge())))


def test_loading_leaves_no_descriptor_and_dropping_leaves_no_mapping(files):
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:kanserve")

    mappings, descriptors = mapped(), len(os.listdir("/proc/self/fd"))
    backend = runtime.load(files)
    assert mapped() > mappings and len(os.listdir("/proc/self/fd")) == descriptors
    del backend
    assert mapped() == mappings


def test_systems_without_memory_files_load_from_a_private_folder(files, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    assert_agrees(runtime.load(files).predict(rows(mixed())), evaluate(mixed(), rows(mixed())))


def test_a_system_that_refuses_memory_files_is_reported(files, monkeypatch):
    def refuse(*_: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(FormatError, match="Function not implemented"):
        runtime.load(files)


def test_a_library_for_another_machine_is_not_found(files):
    others = {path: data for path, data in files.items() if not path.endswith(".so")} | {"plan9-mips.so": b""}
    with pytest.raises(NotFoundError, match=rf"{runtime.library_name()}.*plan9-mips\.so"):
        runtime.load(others)
    with pytest.raises(NotFoundError, match="none"):
        runtime.load({path: data for path, data in others.items() if not path.endswith(".so")})


def test_a_library_of_another_processor_is_refused_although_its_name_is_right(files):
    name = runtime.library_name()
    other = bytearray(files[name])
    other[18:20] = b"\xf3\xf2"  # the field for the processor
    with pytest.raises(FormatError, match=rf"{name} cannot be loaded on this machine"):
        runtime.load({**files, name: bytes(other)})


def test_what_is_no_library_of_ours_is_refused(files):
    name = runtime.library_name()
    for data in (b"", b"MZ", files[name][:2000]):
        with pytest.raises(FormatError, match="not a library"):
            runtime.load({**files, name: data})
    renamed = {"other.h": files["net.h"], "other.c": files["net.c"], name: files[name]}
    with pytest.raises(FormatError, match="other_info"):
        runtime.load(renamed)
    for headers in ({}, {"a b.h": b"", "a b.c": b""}, {"../x.h": b"", "../x.c": b""}, {"a.h": b""}):
        with pytest.raises(FormatError, match=r"P\.h"):
            runtime.load({**headers, name: files[name]})


def test_without_a_compiler_the_message_says_what_to_do(files, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(NotFoundError, match=r"cc, gcc, clang.*\$CC"):
        runtime.build(files)
    monkeypatch.setenv("CC", "ccache no-such-compiler")
    with pytest.raises(NotFoundError, match="ccache no-such-compiler"):
        runtime.build(files)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.skipif(os.name != "posix", reason="the compilers are shell scripts")
def test_a_compiler_is_what_a_shell_would_run(files, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    script(tmp_path / "mine", 'exec cc "$@"')
    monkeypatch.setenv("CC", "./mine -DOTHER")
    assert c_compilers.own() == [str(tmp_path / "mine"), "-DOTHER"]
    assert runtime.library_name() in runtime.build(files)
    monkeypatch.setenv("CC", "cc '")
    with pytest.raises(InputError, match=r"got \"cc '\": No closing quotation.*CC"):
        runtime.build(files)


@pytest.mark.parametrize(
    "text, words",
    [
        ("#!/bin/sh\nexit 0", "writes nothing"),
        ("#!/bin/sh\nexit 1", "code 1"),
        ("#!/bin/sh\necho no licence >&2; exit 3", "no licence"),
        ("#!/nowhere/sh", "cannot be run"),
    ],
)
def test_a_compiler_that_is_there_and_fails_is_an_error_that_says_what_to_do(text, words, files, tmp_path):
    script(tmp_path / "broken", text)
    with pytest.raises(ExportError, match=f"{words}.*Set CC .*--formats onnx_graph,numpy_source"):
        runtime.build(files, str(tmp_path / "broken"))


def script(path, text):
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the levels are those of x86-64")
def test_levels_that_take_too_long_are_followed_by_the_plain_source_at_once(files, monkeypatch):
    ways, run = [], c_compilers.run

    def slow(commands, *rest, **options):
        ways.append(len(commands))
        if len(commands) > 1:
            raise c_compilers.StoppedError("stopped")
        assert "-Dnet_FAST" not in commands[0]
        return run(commands, *rest, **options)

    monkeypatch.setattr(c_compilers, "run", slow)
    library = runtime.build(files)
    assert len(ways) == 2 and b"predict_v3" not in library[runtime.library_name()]


def test_a_full_disk_is_an_error_that_names_the_folder(files, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ExportError, match=f"{tempfile.gettempdir()}: No space left on device.*TMPDIR"):
        runtime.build(files)


def test_source_that_does_not_compile_is_an_export_error_with_the_compilers_words(files):
    with pytest.raises(ExportError, match="here it stops"):
        runtime.build({**files, "net.c": b"#error here it stops\n"})


@pytest.mark.slow
@pytest.mark.extended
def test_a_compiler_that_does_not_end_is_stopped_with_all_that_it_started(files, monkeypatch, tmp_path):
    compiler = tmp_path / "slow"
    compiler.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! > {tmp_path}/child\nwait\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(c_compilers, "LONGEST", 0.5)
    with pytest.raises(ExportError, match=r"stopped after 0\.5 s"):
        runtime.build(files, str(compiler))
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "cmdline")
    deadline = time.monotonic() + 60  # a killed one goes when the machine comes to it; by itself it stays 1000 s
    while child.exists() and b"sleep" in child.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.exists() or b"sleep" not in child.read_bytes()
