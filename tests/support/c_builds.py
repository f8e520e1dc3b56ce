"""What tests of generated C share: `written` writes the source of a network, `run` compiles or runs it."""

import os
import subprocess
from pathlib import Path
from typing import Any

from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan
from kanserve_exporters import c_source
from tests.support.programs import want

WARNINGS = ("-pedantic", "-Wall", "-Wextra", "-Werror", "-Wdouble-promotion")
STRICT = ("-std=c99", *WARNINGS)
C, CPP = ("gcc", *STRICT), ("g++", "-x", "c++", "-std=c++17", *WARNINGS)
# Without the sanitizer's own stack, on which some versions of gcc place vectors of 64 bytes at multiples of 32.
SANITIZED = (
    *("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"),
    *("--param", "asan-use-after-return=0"),
)


def written(folder: Path, kan: Kan, name: str = "net", **options: Any) -> set[str]:
    """Write the files of a network, with these of `ExportOptions`; their names."""
    folder.mkdir(exist_ok=True)
    files = c_source.export(kan, ExportOptions(name, **options))
    for path, data in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(data)
    return set(files)


def run(*command: str, at: Path, **variables: str) -> str:
    """What a command says that ends without an error and without a warning. Where there is no compiler of C++, which
    kanserve itself does not need, a test that calls it is skipped."""
    if command[0] == CPP[0]:
        want(CPP[0])
    # Nothing of ours allocates; what looks for leaks cannot run under a tracer.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", **variables}
    done = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: code {done.returncode}\n{(done.stdout + done.stderr)[:3000]}"
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout
