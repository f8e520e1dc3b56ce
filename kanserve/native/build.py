"""Compile the kernels beside their sources: `python kanserve/native/build.py`, and the hook of the package's build.

It stands alone, as it runs before the package is installed. One build runs on every processor of its kind; on x86-64
there are two more for newer ones, of which `kanserve.native` loads the best that the processor can run.

Where onnxruntime's C header is found as well (Debian's libonnxruntime-dev, or the folder that the environment variable
KANSERVE_ONNXRUNTIME_HEADERS names), the operators in onnxruntime/ are built in the same way.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
# A NaN must stay one, so no -ffinite-math-only; without the others no loop with a comparison is vectorised.
LOOPS = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros")
FLAGS = ("-std=c11", "-fPIC", "-shared", "-pthread", "-fno-semantic-interposition", *LOOPS)
# onnxruntime unloads a library with the session that asked for it, and the threads of another may still be inside.
OPERATOR_FLAGS = ("-fvisibility=hidden", *(("-Wl,-z,nodelete",) if sys.platform == "linux" else ()))
HEADER = "onnxruntime_c_api.h"
X86_BUILDS = ("x86-64-v3", "x86-64-v4")


def compiler() -> str | None:
    """The C compiler: what the environment variable CC says, else the first of the usual names that is there."""
    wanted = os.environ.get("CC")
    return wanted or next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def build(folder: Path = FOLDER) -> tuple[Path, ...]:
    """Compile every C file of `folder` into one library a build, each replaced in one step.

    Raises OSError where there is no compiler and CalledProcessError, with the compiler's words, where it fails.
    """
    program = compiler()
    if program is None:
        raise OSError("There is no C compiler: install gcc or clang, or set CC.")
    return _build(program, folder, folder, "libkanserve", ())


def build_operators(folder: Path = FOLDER) -> tuple[Path, ...]:
    """The same for the operators of onnxruntime in `folder`/onnxruntime.

    Raises OSError too where onnxruntime's header is not found.
    """
    program, include = compiler(), headers()
    if program is None or include is None:
        raise OSError(f"There is no C compiler or no {HEADER}: install libonnxruntime-dev.")
    return _build(program, folder / "onnxruntime", folder, "libkanserve-onnx", (f"-I{include}", *OPERATOR_FLAGS))


def headers() -> Path | None:
    """The folder of onnxruntime's C header: what KANSERVE_ONNXRUNTIME_HEADERS says, else the first usual one."""
    wanted = os.environ.get("KANSERVE_ONNXRUNTIME_HEADERS")
    usual = (Path(root, "include", "onnxruntime") for root in (sys.prefix, "/usr/local", "/usr"))
    return next((path for path in ([Path(wanted)] if wanted else usual) if (path / HEADER).is_file()), None)


def _build(program: str, source: Path, folder: Path, stem: str, flags: Sequence[str]) -> tuple[Path, ...]:
    sources = sorted(str(path) for path in source.glob("*.c"))
    builds = ("generic", *(X86_BUILDS if platform.machine().lower() in ("x86_64", "amd64") else ()))
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        made = [(Path(temporary) / f"{stem}-{name}.so", name) for name in builds]
        running = [_compile(program, [*flags, *sources], path, name) for path, name in made]
        for process, (_, errors) in [(one, one.communicate()) for one in running]:
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, process.args, stderr=errors)
        for path, _ in made:
            path.replace(folder / path.name)
    return tuple(folder / path.name for path, _ in made)


def _compile(program: str, arguments: Sequence[str], path: Path, name: str) -> "subprocess.Popen[str]":
    processor = () if name == "generic" else (f"-march={name}", "-mprefer-vector-width=512")
    command = [*program.split(), *FLAGS, *processor, "-o", str(path), *arguments, "-lm"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


if __name__ == "__main__":
    try:
        print(*build(), *(build_operators() if headers() else ()), sep="\n")
    except OSError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(error.cmd)}\n{error.stderr}")
