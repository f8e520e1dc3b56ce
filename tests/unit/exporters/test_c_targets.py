"""Libraries for other machines: what they are called, what is in them, and that one of them runs here."""

import platform
import struct
import sys

import pytest

from kanserve.errors import ExportError, InputError, MissingDependencyError, NotFoundError
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions
from kanserve.runtime import _c_targets as targets
from kanserve.runtime import c_backend as runtime
from kanserve.runtime import c_compilers
from kanserve_exporters import c_source as exporter
from tests.support.agreement import assert_agrees
from tests.support.networks.kans import mixed, rows

PROCESSORS = {"x86_64": 62, "aarch64": 183, "armv7l": 40, "riscv64": 243}  # e_machine of ELF


@pytest.fixture(scope="module")
def files():
    return dict(exporter.export(mixed(), ExportOptions("net")))


@pytest.fixture
def ziglang():
    pytest.importorskip("ziglang", reason="needs ziglang")


def test_each_target_has_a_library_of_its_own_name():
    names = [target.library for target in targets.TARGETS.values()]
    assert len(set(names)) == len(names)
    for name, target in targets.TARGETS.items():
        assert target.triple.startswith(name) and ("-musl" in target.library) == ("musl" in name)


@pytest.mark.parametrize(
    "system, processor, suffix, target",
    [
        ("linux", "x86_64", ".cpython-312-x86_64-linux-gnu.so", "x86_64-linux-gnu"),
        ("linux", "aarch64", ".cpython-312-aarch64-linux-musl.so", "aarch64-linux-musl"),
        ("linux", "armv7l", ".cpython-312-arm-linux-gnueabihf.so", "arm-linux-gnueabihf"),
        ("linux", "riscv64", ".cpython-312-riscv64-linux-gnu.so", "riscv64-linux-gnu"),
        ("win32", "AMD64", ".cp312-win_amd64.pyd", "x86_64-windows-gnu"),
    ],
)
def test_a_machine_looks_for_the_library_of_its_target(system, processor, suffix, target, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: processor)
    monkeypatch.setattr(targets, "EXTENSION_SUFFIXES", [suffix, ".so"])
    assert runtime.library_name() == targets.TARGETS[target].library


def test_what_cannot_be_compiled_for_is_refused_with_what_can(files):
    with pytest.raises(NotFoundError, match=r"'sparc'.*aarch64-linux-musl"):
        runtime.build(files, target="sparc")
    with pytest.raises(InputError, match="ziglang"):
        runtime.build(files, "cc", target="aarch64-linux-gnu")


def test_without_ziglang_the_error_names_the_extra(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "ziglang", None)
    with pytest.raises(MissingDependencyError, match=r"kanserve\[cross\]"):
        runtime.build(files, target="aarch64-linux-gnu")


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="runs a library for Linux on x86-64"
)
def test_a_library_made_by_ziglang_runs_here_and_agrees_with_the_reference(files, ziglang):
    made = runtime.build(files, target="x86_64-linux-gnu")
    assert list(made) == ["linux-x86_64.so"] and made == runtime.build(files, target="x86_64-linux-gnu")
    assert_agrees(runtime.load({**files, **made}).predict(rows(mixed())), evaluate(mixed(), rows(mixed())))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("target", ["aarch64-linux-gnu"])
def test_a_foreign_library_is_of_its_processor_and_needs_only_the_c_library(target, files, ziglang):
    ((name, data),) = runtime.build(files, target=target).items()
    assert name == targets.TARGETS[target].library
    (processor,) = struct.unpack_from("<H", data, 18)
    assert processor == PROCESSORS[name.split("-")[1].removesuffix(".so")]
    for public in ("predict", "predict_batch", "info", "selftest", "golden"):
        assert f"\0net_{public}\0".encode() in data
    assert b"/tmp" not in data


@pytest.mark.extended
def test_the_words_of_the_compiler_come_out_and_nothing_is_left_behind(files, ziglang, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError, match="here it stops"):
        runtime.build({**files, "net.c": b"#error here it stops\n"}, target="x86_64-linux-gnu")
    assert not list(tmp_path.iterdir())


def test_what_ziglang_keeps_is_kept_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = {c_compilers.foreign_environment()[f"ZIG_{kind}_CACHE_DIR"] for kind in ("LOCAL", "GLOBAL")}
    assert folders == {str(tmp_path / "kanserve" / "zig")}
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert c_compilers.foreign_environment()["ZIG_LOCAL_CACHE_DIR"].startswith(str(tmp_path / ".cache"))


def test_a_cache_folder_that_cannot_be_written_is_an_error_before_ziglang_runs(files, ziglang, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(c_compilers, "LONGEST_FOREIGN", 5.0)
    with pytest.raises(ExportError, match=r"file/kanserve/zig, which cannot be written: .*XDG_CACHE_HOME"):
        runtime.build(files, target="aarch64-linux-gnu")
