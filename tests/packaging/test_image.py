"""The container image serves by the native transport, and nothing in it compiles."""

import json
import re
import subprocess
import sys

from kanserve.native import build
from kanserve.serve.transport import native_library
from tests.support.paths import ROOT
from tests.support.programs import skip

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text("utf-8")
BUILD_STAGE, IMAGE = DOCKERFILE.replace("\\\n", "").split("\nFROM ${BASE}\n")
# What the image's build runs last, to see that the transport is there.
(CHECK,) = [json.loads(command) for command in re.findall(r"^RUN (\[.*\])$", IMAGE, re.MULTILINE)]


def run_check(first: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", first + CHECK[-1]], cwd=ROOT, capture_output=True, text=True)


def test_the_image_is_made_where_the_native_transport_can_be_loaded():
    # By what the install built, not by the libraries that are there now: they may have come after it.
    if not getattr(native_library.library(), "serves_http", False):
        skip(f"libnghttp2-dev: {native_library.running(rest=True)}")
    done = run_check()
    assert done.returncode == 0, done.stderr


def test_no_image_is_made_without_the_native_transport():
    done = run_check("import kanserve.native, pathlib; kanserve.native.FOLDER = pathlib.Path('/nowhere'); ")
    assert done.returncode == 1 and "The native transport was not built" in done.stderr


def test_what_compiles_stays_in_the_stage_that_builds():
    assert "KANSERVE_NATIVE" not in DOCKERFILE
    assert {"gcc", *build.SERVER_PACKAGES, *build.HTTP1_PACKAGES} <= packages(BUILD_STAGE)
    assert packages(IMAGE) == {"libllhttp9.2", "libnghttp2-14", "libyyjson0"}


def packages(stage: str) -> set[str]:
    """What a stage installs by apt-get."""
    (names,) = re.findall(r"apt-get install -y --no-install-recommends ([^&]*)&&", stage)
    return set(names.split())


def test_what_the_build_copies_is_let_into_it_and_what_this_machine_compiled_is_not():
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split("\n")
    copied = {name for names in re.findall(r"(?m)^COPY (?!--)(.+) \S+$", BUILD_STAGE) for name in names.split()}
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert ignored.index("*") < min(ignored.index(f"!{name}") for name in copied) and "**/*.so" in ignored
