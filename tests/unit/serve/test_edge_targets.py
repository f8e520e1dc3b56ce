"""An edge server for another processor: what its folder says, that it builds there, and what it answers in qemu.

The libraries of the processor are Debian's where they are installed (libnghttp2-dev:arm64 and so on), or those that
were unpacked into the folder in the environment variable KANSERVE_SERVER_LIBRARIES.
"""

import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kanserve.client import Client
from kanserve.errors import InputError, KanserveError
from kanserve.network import serialization
from kanserve.network.evaluate import evaluate, jacobian
from kanserve.serve.edge_server import edge_server
from kanserve.serve.edge_targets import TARGETS, edge_target
from tests.support.networks import kans
from tests.support.programs import skip, want

CROSS = [target for target in TARGETS.values() if target.debian]


def written(folder: Path, target: str | None) -> Path:
    for path, data in edge_server(kans.raw_features(), "raw", target=target).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def libraries(name: str) -> tuple[Path, Path]:
    """The folders of the headers and of the libraries for this target."""
    usr = Path(os.environ.get("KANSERVE_SERVER_LIBRARIES") or "/", "usr")
    found = usr / "lib" / name
    if not all((found / library).is_file() for library in ("libnghttp2.a", "libz.a")):
        skip(f"libnghttp2-dev:{TARGETS[name].debian}")
    return usr / "include", found


def line(folder: Path) -> str:
    """The first command that the README builds the server with."""
    (found,) = re.findall(r"^    (\S*cc -std(?:.*\\\n)*.*)$", (folder / "README.md").read_text(), re.MULTILINE)[:1]
    return str(found)


def checked_and_asked(run: list[str], folder: Path) -> None:
    """It agrees with its golden rows, and a client gets predictions and derivatives."""
    done = subprocess.run([*run, "--check"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    kan = kans.raw_features()
    x = kans.rows(kan)[:5]
    command = [*run, "--port", "0", "--http-port", "0"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            with Client(said.rsplit(" on ", 1)[1].strip()) as client:
                values, slopes = client.differentiate("raw", x)
                with pytest.raises(KanserveError, match="UNIMPLEMENTED: An edge server has no second derivatives"):
                    client.differentiate("raw", x, hessian=True)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    np.testing.assert_allclose(values, evaluate(kan, x), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(slopes, jacobian(kan, x), rtol=1e-8, atol=1e-8)


def test_a_folder_names_the_compiler_and_the_packages_of_its_target_and_has_the_same_source() -> None:
    plain = dict(edge_server(kans.symbolic(), "law"))
    for target in TARGETS.values():
        files = dict(edge_server(kans.symbolic(), "law", target=target.name))
        readme = files["README.md"].decode()
        assert f"    {target.compiler} -std=c11 -O2{target.options} " in readme and "@" not in readme
        assert ("toolchain.cmake" in files) == (f"libnghttp2-dev:{target.debian}" in readme) == bool(target.debian)
        assert target.options in files["CMakeLists.txt"].decode()
        written_down = {"README.md", "CMakeLists.txt", "toolchain.cmake"}
        assert {path: files[path] for path in files.keys() - written_down} == {
            path: plain[path] for path in plain.keys() - written_down
        }
    assert edge_target("aarch64") is TARGETS["aarch64-linux-gnu"] and edge_target(None).compiler == "cc"
    with pytest.raises(
        InputError, match="Unknown target 'vax' of an edge server; there are: aarch64-linux-gnu, riscv64"
    ):
        edge_server(kans.symbolic(), "law", target="vax")


def test_the_command_takes_one_target(kanserve, tmp_path) -> None:
    serialization.save(kans.symbolic(), tmp_path / "law.safetensors")
    arguments = ("export", str(tmp_path / "law.safetensors"), "--to", "edge-server", "--out", str(tmp_path / "server"))
    code, _, error = kanserve(*arguments, "--processors", "aarch64", "--processors", "riscv64")
    assert code != 0 and "takes one of --processors" in error
    code, said, _ = kanserve(*arguments, "--processors", "aarch64")
    assert code == 0 and "toolchain.cmake" in said
    (option,) = re.findall(r"--to edge-server (--\S+)`", (tmp_path / "server" / "README.md").read_text("utf-8"))
    assert option in kanserve("export", "--help")[1]


@pytest.mark.slow
@pytest.mark.parametrize("target", CROSS, ids=lambda target: target.name)
def test_it_builds_by_one_line_and_by_cmake_and_answers_in_qemu(target, tmp_path) -> None:
    want(target.compiler)
    emulator = want(f"qemu-{target.machine}")
    headers, archives = libraries(target.name)
    folder = written(tmp_path, target.name)
    elsewhere = headers != Path("/usr/include")
    given = f" -I {headers} -L {archives}" if elsewhere else ""
    done = subprocess.run(line(folder) + given, shell=True, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    checked_and_asked([emulator, "./raw"], folder)
    want("cmake")
    prefix = [f"-DCMAKE_PREFIX_PATH={headers.parent}"] if elsewhere else []
    for command in (["-B", "made", "-DCMAKE_TOOLCHAIN_FILE=toolchain.cmake", *prefix], ["--build", "made"]):
        done = subprocess.run(["cmake", *command], cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    done = subprocess.run([emulator, "made/raw", "--check"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "golden rows come out right" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("target", CROSS, ids=lambda target: target.name)
def test_cmake_says_what_to_install_where_the_libraries_of_the_target_are_not(target, tmp_path) -> None:
    want(target.compiler)
    want("cmake")
    if Path("/usr/lib", target.name, "libnghttp2.a").is_file():
        pytest.skip("they are here")
    command = ["cmake", "-B", "made", "-DCMAKE_TOOLCHAIN_FILE=toolchain.cmake"]
    done = subprocess.run(command, cwd=written(tmp_path, target.name), capture_output=True, text=True, timeout=120)
    said = " ".join(done.stderr.split())
    assert done.returncode != 0 and f"nghttp2 and zlib for {target.machine} are not found: install" in said
    assert f"libnghttp2-dev:{target.debian}" in said and "-DCMAKE_PREFIX_PATH=FOLDER" in said
