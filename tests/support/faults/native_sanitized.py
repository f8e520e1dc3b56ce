"""The kernels of training under the sanitizers of gcc.

    python -m tests.support.faults.native_sanitized FOLDER [TESTS of pytest]

Builds them into the folder and runs tests with them; a fault ends the process with the place.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kanserve.native import build

SANITIZED = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
TESTS = ("tests/unit/native/test_least_squares.py",)
RUN = """
import sys
from pathlib import Path

import pytest

from kanserve import native

native.FOLDER = Path(sys.argv[1])
assert native.library() is not None
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *sys.argv[2:]]))
"""


def run(folder: Path, *tests: str) -> "subprocess.CompletedProcess[str]":
    """Build the kernels into the folder and run these tests by them."""
    source = folder / "native"
    shutil.copytree(build.FOLDER, source, ignore=shutil.ignore_patterns("*.so", "__pycache__", "onnxruntime"))
    usual = [flag for flag in build.FLAGS if flag not in build.LOOPS]
    chosen = build._for_this_processor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "FLAGS", (*usual, *SANITIZED))
        # This process cannot load what is sanitized, so the usual library says which processor this is.
        patch.setattr(build, "_for_this_processor", lambda builds, folder: chosen(builds, build.FOLDER))
        build.build(source, here=True)
    library = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    environment = os.environ | {"LD_PRELOAD": library.strip(), "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, str(source), *(tests or TESTS)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


if __name__ == "__main__":
    done = run(Path(sys.argv[1]), *sys.argv[2:])
    print(done.stdout[-3000:], done.stderr[-3000:])
    sys.exit(done.returncode)
