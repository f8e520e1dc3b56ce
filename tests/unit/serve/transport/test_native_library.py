"""Which transport a server says that it serves by, and what is missing where that is grpcio."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kanserve.native import build
from kanserve.serve.transport import native_library
from tests.support.paths import ROOT
from tests.support.programs import want

FIVE = ["libnghttp2-dev", "libssl-dev", "zlib1g-dev", "libllhttp-dev", "libyyjson-dev"]
# With the libraries of one folder alone, and without those that this machine has headers of.
SAY = """
import sys
from pathlib import Path
from kanserve import native
from kanserve.native import build
native.FOLDER, build.INCLUDES = Path(sys.argv[1]), ()
from kanserve.serve.transport.native_library import running
print(running(sys.argv[2], rest=True))
"""


def said(built: Path, transport: str = "auto", **environment: str) -> str:
    command = [sys.executable, "-c", SAY, str(built), transport]
    kept = {name: value for name, value in os.environ.items() if name not in ("CPATH", "KANSERVE_NATIVE")}
    done = subprocess.run(command, env=kept | environment, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def headers(folder: Path, *packages: str, nghttp2: str = "1.64.0") -> Path:
    """A folder with empty headers of these packages."""
    for package in packages:
        header = folder / (build.SERVER_PACKAGES | build.HTTP1_PACKAGES)[package]
        header.parent.mkdir(parents=True, exist_ok=True)
        header.touch()
    if "libnghttp2-dev" in packages:
        (folder / "nghttp2" / "nghttp2ver.h").write_text(f'#define NGHTTP2_VERSION "{nghttp2}"\n')
    return folder


def test_all_five_packages_are_named_where_none_was_there(tmp_path):
    want("gcc")
    assert said(tmp_path) == f"grpcio; the native transport needs {', '.join(FIVE)} at the install"
    assert said(tmp_path, PATH="").startswith("grpcio; the native transport needs gcc, libnghttp2-dev, ")


def test_only_packages_that_are_missing_are_named_and_one_that_is_too_old(tmp_path):
    want("gcc")
    found = headers(tmp_path, *FIVE[:4], nghttp2="1.52.0")
    assert said(tmp_path, CPATH=f"/nowhere:{found}") == (
        "grpcio; the native transport needs libyyjson-dev, libnghttp2-dev 1.62 or newer (not 1.52) at the install"
    )


def test_packages_that_came_after_the_install_want_another_install(tmp_path):
    want("gcc")
    assert said(tmp_path, CPATH=str(headers(tmp_path, *FIVE))) == (
        "grpcio; the native transport was not built, and all that it needs is here now: "
        "install kanserve again from a clone"
    )


def test_settings_that_choose_grpcio_are_named(tmp_path):
    assert said(build.FOLDER, "grpcio") == "grpcio; the setting 'transport' chose it"
    assert said(build.FOLDER, KANSERVE_NATIVE="0") == "grpcio; KANSERVE_NATIVE=0 turns the native transport off"


def test_a_library_that_cannot_be_loaded_says_why(tmp_path):
    (tmp_path / "libkanserve-server.so").write_text("no library")
    assert said(tmp_path).startswith("grpcio; the native transport cannot be loaded: ")
    assert "file too short" in said(tmp_path)


def test_where_it_was_built_it_is_native_and_without_rest_says_what_rest_needs(tmp_path):
    if (library := native_library.library()) is None:
        pytest.skip("needs libnghttp2-dev")
    if library.serves_http:
        assert said(build.FOLDER) == "native"
        # As if llhttp and yyjson had not been there: the same library without its functions of HTTP.
        content = (build.FOLDER / "libkanserve-server.so").read_bytes()
        for path in build.FOLDER.glob("*.so"):
            shutil.copy(path, tmp_path)
        content = content.replace(b"kanserve_listen_http\0", b"kanserve_listen_no_h\0")
        (tmp_path / "libkanserve-server.so").write_bytes(content)
    else:
        shutil.copytree(build.FOLDER, tmp_path, dirs_exist_ok=True)
    assert said(tmp_path) == (
        "native; Python serves REST, native REST needs libllhttp-dev, libyyjson-dev at the install"
    )
