"""What an index serves: the source distribution and the wheels, what is in them, and what they say of themselves."""

import email
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanserve.client import Client
from kanserve.native import build
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import sample
from tests.support.paths import ROOT
from tests.support.programs import skip, want
from tests.support.readme_blocks import README, blocks, write_tables
from tests.support.servers import serving
from tests.support.servers.keys import authority
from tests.support.servers.server_process import said

# In place of the kernels, which take a minute to compile for another machine; it uses threads and libm as they do.
KERNEL = """
#include <math.h>
#include <pthread.h>
static void *work(void *given) { *(double *)given = exp(*(double *)given); return 0; }
double kanserve_one(double x) { pthread_t t; pthread_create(&t, 0, work, &x); pthread_join(t, 0); return x; }
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, and the wheel that a user's pip makes of it."""
    folder = tmp_path_factory.mktemp("dist")
    built = _build([], ROOT, folder, KANSERVE_ONNXRUNTIME_HEADERS=str(folder))  # without operators, as for most users
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture
def small_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what a wheel is built from, with one small kernel, no operators, and the server's native transport."""
    monkeypatch.setenv("KANSERVE_ONNXRUNTIME_HEADERS", str(tmp_path))  # where none is
    tree = tmp_path / "tree"
    for name in ("kanserve", "exporters"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("*.so", "__pycache__", "onnxruntime"))
    for name in ("hatch_build.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    kernels = [tree / "kanserve" / "native" / folder for folder in ("common", "layer", "lm")]
    for path in (path for folder in kernels for path in folder.glob("*.c")):
        path.unlink()
    (tree / "kanserve" / "native" / "kernel.c").write_text(KERNEL)
    return tree


@pytest.mark.slow
@pytest.mark.extended
def test_the_wheel_carries_every_file_of_the_packages(dist: Path) -> None:
    with zipfile.ZipFile(_wheel(dist)) as wheel:
        carried = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert _sources(carried) == files_of(ROOT, "kanserve") | files_of(ROOT / "exporters", "kanserve_exporters")
    if build.compiler() and platform.machine() == "x86_64":  # a checkout has only what its own processor runs
        names = {
            f"kanserve/native/libkanserve-{name}.so" for name in ("processor", "generic", *build.X86_BUILDS.values())
        }
        assert names <= carried


def _sources(files: set[str]) -> set[str]:
    """Less the compiled libraries."""
    return {name for name in files if not name.endswith(".so")}


def files_of(root: Path, package: str) -> set[str]:
    """The package's files as paths from `root`, less the caches that Python and the tools leave among them."""
    files = (path.relative_to(root) for path in (root / package).rglob("*") if path.is_file())
    return _sources(
        {path.as_posix() for path in files if not any(part.startswith((".", "__pycache__")) for part in path.parts)}
    )


@pytest.mark.extended
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git says which files the repository has")
def test_the_source_distribution_has_every_file_of_the_repository(dist: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        carried = {name.split("/", 1)[1] for name in archive.getnames()}
    assert "Makefile" in carried
    assert {name for name in listed.split("\0") if name and (ROOT / name).exists()} - carried == set()


@pytest.mark.extended
def test_every_link_of_the_readme_is_a_full_address_of_a_file_in_the_repository(dist: Path) -> None:
    with zipfile.ZipFile(_wheel(dist)) as wheel:
        metadata = email.message_from_bytes(wheel.read(next(n for n in wheel.namelist() if n.endswith("/METADATA"))))
    text = str(metadata.get_payload(decode=True), "utf-8")  # type: ignore[arg-type]  # bytes, as it is one part
    addresses = dict(value.split(", ") for value in metadata.get_all("Project-URL", []))
    assert addresses.keys() == {"Homepage", "Documentation", "Repository", "Changelog", "Issues"}
    assert metadata["Description-Content-Type"] == "text/markdown"
    found, written = _links(text), _links(README)
    assert len(found) == len(written) > 10
    for mark, link in found:
        start = f"{addresses['Repository']}/{'raw' if mark else 'blob'}/v{metadata['Version']}/"
        assert link.startswith(start) and (ROOT / link.removeprefix(start)).is_file(), link
    assert _without_links(text) == _without_links(README)
    pictures = re.findall(r' (?:src|srcset)="([^"]+)"', text)
    assert len(pictures) == 2
    for picture in pictures:
        start = f"{addresses['Repository']}/raw/v{metadata['Version']}/"
        assert picture.startswith(start) and (ROOT / picture.removeprefix(start)).is_file(), picture


@pytest.mark.extended
def test_a_wheel_for_the_machine_that_built_it_says_so(dist: Path) -> None:
    # Without a compiler it is for every machine; test_native.py has that.
    tag = sysconfig.get_platform().replace("-", "_").replace(".", "_") if build.compiler() else "any"
    assert _wheel(dist).name.endswith(f"-py3-none-{tag}.whl")


@pytest.mark.slow
@pytest.mark.extended
def test_the_first_block_of_the_readme_runs_in_an_environment_with_the_wheel(dist: Path, tmp_path: Path) -> None:
    python, installed = _install(_wheel(dist), tmp_path)
    write_tables(tmp_path)
    where = "import kanserve.native as n; print(kanserve.__file__, n.library() and n.library()._name, sep='\\n')\n"
    command = [str(python), "-I", "-c", blocks("python")[0] + where]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *_, package, library = done.stdout.splitlines()
    assert Path(package) == installed / "kanserve" / "__init__.py"
    assert Path(library).parent == installed / "kanserve" / "native" if build.compiler() else library == "None"
    assert (tmp_path / "houses.svg").exists() and (tmp_path / "models/houses/1/manifest.json").exists()


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_wheel_for_older_and_other_machines_needs_no_newer_glibc_and_says_what_it_goes_without(
    machine: str, small_tree: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ziglang", reason="needs ziglang")
    tag = f"manylinux_2_17_{machine}"
    # A folder without the server's libraries.
    built = _build(["--wheel"], small_tree, tmp_path, KANSERVE_PLATFORM=tag, KANSERVE_SERVER_LIBRARIES=str(tmp_path))
    said_of_build = built.stdout + built.stderr
    assert built.returncode == 0, said_of_build
    assert f"The wheel for {tag} has no native transport" in said_of_build and "libnghttp2-dev" in said_of_build
    wheel = _wheel(tmp_path)
    assert wheel.name.endswith(f"-py3-none-{tag}.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert (
            f"Tag: py3-none-{tag}"
            in archive.read(next(name for name in archive.namelist() if name.endswith("/WHEEL"))).decode()
        )
        libraries = {name.rsplit("-", 1)[-1]: archive.read(name) for name in archive.namelist() if ".so" in name}
    assert libraries.pop("processor.so")[18] == {"x86_64": 62, "aarch64": 183}[machine]  # e_machine of ELF
    assert libraries.keys() == {"generic.so", *(("v3.so", "v4.so") if machine == "x86_64" else ())}
    for library in libraries.values():
        assert library[18] == {"x86_64": 62, "aarch64": 183}[machine]
        assert (0,) < _newest_glibc(library) <= (2, 17)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="there are no wheels for this processor")
def test_a_wheel_serves_by_the_libraries_it_carries_where_there_is_no_compiler(
    small_tree: Path, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ziglang", reason="needs ziglang")
    tag = f"manylinux_2_17_{platform.machine()}"
    if lacking := build.missing_for_wheel(tag):
        skip(lacking[0].partition(":")[0])
    monkeypatch.setenv("KANSERVE_PLATFORM", tag)
    monkeypatch.delenv("CPATH", raising=False)  # folders for this machine's compiler, not for ziglang
    built = _build(["--wheel"], small_tree, tmp_path)
    assert built.returncode == 0, built.stdout + built.stderr
    with zipfile.ZipFile(_wheel(tmp_path)) as archive:
        texts = {name.split("/")[-1]: archive.read(name) for name in archive.namelist() if "/licenses/" in name}
    carried = build.CARRIED | build.CARRIED_FOR_HTTP1
    assert texts.keys() == {"LICENSE", *(f"{name}.txt" for name in carried)} and all(texts.values())

    python, installed = _install(_wheel(tmp_path), tmp_path)
    native = installed / "kanserve" / "native"
    transport = {path.name for path in native.glob("*.so")} - {"libkanserve-processor.so", "libkanserve-generic.so"}
    transport -= {f"libkanserve-{name}.so" for name in build.X86_BUILDS.values()}
    assert {"libkanserve-server.so", "libkanserve-server-tls.so"} <= transport
    for name in transport:
        assert _needed(native / name) <= GLIBC | transport
        assert _newest_glibc((native / name).read_bytes()) <= (2, 17)

    certificate, key = authority().pair("localhost").write(tmp_path, "server")
    trusted = tmp_path / "authority.pem"
    trusted.write_bytes(authority().certificate)
    grant = f'[[access]]\nroles = ["predict"]\ntoken_sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"\n'
    (tmp_path / "kanserve.toml").write_text(grant)
    kanserve = [str(python), "-P", "-m", "kanserve"]
    command = [*kanserve, "serve", str(repository), "--port", "0", "--http-port", "0", "--config", "kanserve.toml"]
    command += ["--tls-certificate", certificate, "--tls-key", key]
    environment = {"PATH": str(python.parent), "HOME": str(tmp_path)}
    x = sample(serving.kan("raw"), 20)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as running:
        try:
            line = said(running, "serving")
            loaded = {entry.split()[-1] for entry in Path(f"/proc/{running.pid}/maps").read_text().splitlines()}
            with Client(line.split()[-1], tls=authority().certificate, token=TOKEN) as client:
                answer = client.predict("raw", x)
            (port,) = re.findall(r"REST at https://[^/]*:(\d+)/v2", line)
            answers = [_by_curl(port, trusted, x, token) for token in (TOKEN, "another")]
        finally:
            running.terminate()
    assert "gRPC (native) on " in line
    assert {str(native / name) for name in transport} <= loaded
    assert not any(re.search("nghttp2|llhttp|libyyjson.so", path) for path in loaded)
    wanted = evaluate(serving.kan("raw"), x)
    np.testing.assert_allclose(answer, wanted, rtol=1e-12, atol=1e-12)
    assert [code for code, _ in answers] == [200, 401]
    by_rest = answers[0][1]
    np.testing.assert_allclose(by_rest["outputs"][0]["data"], wanted.ravel(), rtol=1e-12, atol=1e-12)
    done = subprocess.run([*kanserve, "--version"], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert re.search("^native transport: nghttp2 .* llhttp .* yyjson .* OpenSSL ", done.stdout, re.MULTILINE)


# What every Linux of the tag has.
GLIBC = {f"lib{name}.so.{number}" for name, number in (("c", 6), ("m", 6), ("dl", 2), ("pthread", 0))}
GLIBC |= {"ld-linux-aarch64.so.1"}
TOKEN = "a-token-of-more-than-16-characters"


def _needed(library: Path) -> set[str]:
    """The libraries that the loader looks for when it loads this one."""
    done = subprocess.run([want("readelf"), "-d", library], check=True, capture_output=True, text=True)
    return set(re.findall(r"\(NEEDED\).*\[(.*)\]", done.stdout))


def _by_curl(port: str, trusted: Path, x: "np.ndarray[Any, Any]", token: str) -> tuple[int, Any]:
    """The code and the content with which REST over TLS answers a caller with this token."""
    rows = {"name": "x", "datatype": "FP64", "shape": x.shape, "data": x.ravel().tolist()}
    command = [want("curl"), "--silent", "--cacert", str(trusted), "--write-out", "\n%{http_code}"]
    for header in (f"Authorization: Bearer {token}", "Content-Type: application/json"):
        command += ["--header", header]
    command += ["--data", json.dumps({"inputs": [rows]})]
    address = f"https://localhost:{port}/v2/models/raw/infer"
    done = subprocess.run([*command, address], check=True, capture_output=True, text=True)
    content, _, code = done.stdout.rpartition("\n")
    return int(code), json.loads(content)


@pytest.mark.slow
@pytest.mark.extended
def test_a_wheel_for_a_platform_has_its_kernels_or_is_not_built(small_tree: Path, tmp_path: Path) -> None:
    built = _build(["--wheel"], small_tree, tmp_path, KANSERVE_PLATFORM="macosx_11_0_arm64")
    assert built.returncode != 0 and "manylinux_2_17_x86_64" in built.stdout + built.stderr
    (small_tree / "kanserve" / "native" / "kernel.c").write_text("int one(void) { return nothing; }")
    built = _build(["--wheel"], small_tree, tmp_path, KANSERVE_PLATFORM="manylinux_2_17_aarch64")
    reason = "nothing" if importlib.util.find_spec("ziglang") else "pip install ziglang"
    assert built.returncode != 0 and reason in built.stdout + built.stderr
    assert not list(tmp_path.glob("*.whl"))


def _build(what: Sequence[str], source: Path, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "build", *what, "--no-isolation", "--outdir", str(folder), str(source)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def _install(wheel: Path, folder: Path) -> tuple[Path, Path]:
    """The Python of a new environment with the wheel, and the folder that its packages are in."""
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    # The packages of the extras come from here. A folder that a .pth file names has its own .pth files left alone, so
    # that nothing there leads to the checkout.
    ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    installed = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    here = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (installed / "extras.pth").write_text("\n".join(here))
    return python, installed


def _newest_glibc(library: bytes) -> tuple[int, ...]:
    """The newest version of glibc that a library asks for."""
    return max((tuple(map(int, found.split(b"."))) for found in re.findall(rb"GLIBC_([0-9.]+)", library)), default=(0,))


def _wheel(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def _links(text: str) -> list[tuple[str, str]]:
    """Of each link outside blocks of code the mark of a picture, "!" or "", and where it leads."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"(!?)\[[^\]]*\]\(([^)]*)\)", text)


def _without_links(text: str) -> str:
    text = re.sub(r' (src|srcset)="[^"]*"', r" \1", text)
    return re.sub(r"\]\([^)]*\)", "]", text).strip()
