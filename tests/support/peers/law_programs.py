"""Runs the laws that `kanserve.formula.source` writes: each language by its own tool, where it is there."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.programs import want

Array = NDArray[np.float64]

C_FLAGS = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wdouble-promotion", "-ffp-contract=off")
C_WARNINGS = ("-O0", "-c", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Wshadow", "-pedantic", "-Werror")
FORTRAN_FLAGS = ("-std=f2008", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off")


def run(language: str, text: str, name: str, x: Array, outputs: int, folder: Path) -> Array:
    """What the function `name` gives at rows x (N, inputs); skips the test where the language is not there."""
    return RUNNERS[language](text, name, x, outputs, folder)


def compiles(language: str, text: str, folder: Path) -> None:
    """Compile functions of a language, with all warnings as errors; skips the test where its compiler is not there."""
    compiler, suffix, flags = COMPILERS[language]
    (folder / f"laws{suffix}").write_text(text, "ascii")
    command = [want(compiler), *flags, f"laws{suffix}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]


def _program(command: list[str], x: Array, outputs: int, folder: Path) -> Array:
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    lines = "\n".join(" ".join(map(repr, row)) for row in x.tolist()) + "\n"
    done = subprocess.run([folder / "program"], input=lines, capture_output=True, text=True, check=True)
    return np.array(done.stdout.split(), np.float64).reshape(len(x), outputs)


def _c(text: str, name: str, x: Array, outputs: int, folder: Path) -> Array:
    real, scan = ("float", "%f") if "float" in text else ("double", "%lf")
    main = f"""
#include <stdio.h>
int main(void)
{{
    {real} x[{x.shape[1]}], y[{outputs}];
    int i = 0;
    while (scanf("{scan}", &x[i]) == 1)
        if (++i == {x.shape[1]}) {{
            {name}(x, y);
            for (i = 0; i < {outputs}; i++) printf("%.17g ", (double)y[i]);
            i = 0;
        }}
    return 0;
}}
"""
    (folder / "law.c").write_text(text + main, "ascii")
    return _program([want("cc"), *C_FLAGS, "law.c", "-o", "program", "-lm"], x, outputs, folder)


def _fortran(text: str, name: str, x: Array, outputs: int, folder: Path) -> Array:
    real = "double precision" if "double precision" in text else "real"
    main = f"""
program rows
    implicit none
    interface
        pure subroutine {name}(inputs, outputs)
            {real}, intent(in) :: inputs({x.shape[1]})
            {real}, intent(out) :: outputs({outputs})
        end subroutine
    end interface
    {real} :: x({x.shape[1]}), y({outputs})
    integer :: n
    do n = 1, {len(x)}
        read (*, *) x
        call {name}(x, y)
        print '(*(es26.17e3, 1x))', y
    end do
end program rows
"""
    assert max(map(len, text.splitlines())) <= 132
    (folder / "law.f90").write_text(text + main, "ascii")
    return _program([want("gfortran"), *FORTRAN_FLAGS, "law.f90", "-o", "program"], x, outputs, folder)


def _rust(text: str, name: str, x: Array, outputs: int, folder: Path) -> Array:
    real = "f32" if "f32" in text else "f64"
    main = f"""
fn main() {{
    for line in std::io::stdin().lines() {{
        let line = line.unwrap();
        let row: Vec<{real}> = line.split_whitespace().map(|one| one.parse().unwrap()).collect();
        for y in {name}(&row.try_into().unwrap()) {{ print!("{{:?}} ", y as f64); }}
    }}
}}
"""
    (folder / "law.rs").write_text(text + main, "ascii")
    command = [want("rustc"), "--edition=2021", "-D", "warnings", "-o", "program", "law.rs"]
    return _program(command, x, outputs, folder)


def _matlab(text: str, name: str, x: Array, outputs: int, folder: Path) -> Array:
    (folder / f"{name}.m").write_text(text, "ascii")
    np.savetxt(folder / "x.txt", x, "%.17g")
    script = f"y = {name}(load('x.txt')); assert(isreal(y)); dlmwrite('y.txt', double(y), 'precision', '%.17g');"
    words = [want("octave-cli"), "--norc", "--quiet", "--eval", script]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.loadtxt(folder / "y.txt", delimiter=",").reshape(len(x), outputs)


def _names(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(text.encode("ascii"), "law.py", "exec"), names)
    return names


def _numpy(text: str, name: str, x: Array, outputs: int, folder: Path) -> Array:
    law = _names(text)[name]
    whole = np.asarray(law(x))
    assert np.array_equal(law(x[0]), whole[0], equal_nan=True)
    return whole


def _python(text: str, name: str, x: Array, outputs: int, folder: Path) -> Array:
    law = _names(text)[name]
    return np.array([law(row) for row in x.tolist()], np.float64)


RUNNERS: dict[str, Callable[[str, str, Array, int, Path], Array]] = {
    "c": _c,
    "fortran": _fortran,
    "matlab": _matlab,
    "numpy": _numpy,
    "python": _python,
    "rust": _rust,
}

# The compiler, the suffix of a source and the flags.
COMPILERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "c": ("cc", ".c", ("-std=c99", *C_WARNINGS)),
    "c++": ("g++", ".cpp", ("-std=c++17", *C_WARNINGS)),
    "fortran": ("gfortran", ".f90", ("-c", *FORTRAN_FLAGS)),
    "rust": ("rustc", ".rs", ("--edition=2021", "--crate-type=lib", "-D", "warnings")),
}
