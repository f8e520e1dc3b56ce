"""The files beside the C source: CMake and pkg-config files for building, testing and installing, and a README.

In these texts `@` is the prefix with an underscore and `@@` the bare prefix, as in `c_template`; `$AT$` is a plain @.
"""

from collections.abc import Mapping

from kanserve.network.export_options import CForm
from kanserve_exporters._c.template import fill


def package(
    prefix: str, words: Mapping[str, object], formula: list[str], form: CForm, derivatives: int
) -> dict[str, str]:
    """The texts of CMakeLists.txt, P.pc.in and README.md, by path; for the single-file forms only the README.

    `words` are the network's shape, inputs, outputs, meaning of the outputs and type; `formula` has its lines;
    `derivatives` is the order up to which the source has them.
    """
    readme = fill(
        _README.format(
            build=_BUILD[form],
            gradient="".join([_GRADIENT, _HESSIAN][:derivatives]),
            without=["", _WITHOUT, _WITHOUT_BOTH][derivatives],
            **words,
        ),
        prefix,
    )
    files = {"README.md": readme.replace("$FORMULA$", "\n".join(f"    {line}" for line in formula), 1)}
    if form == "files":
        files["CMakeLists.txt"] = fill(_CMAKE, prefix).replace("$AT$", "@")
        files[f"{prefix}.pc.in"] = fill(_PKG_CONFIG.format(**words), prefix).replace("$AT$", "@")
    return files


_CMAKE = """\
cmake_minimum_required(VERSION 3.14...4.0)
project(@@ VERSION 1.0.0 LANGUAGES C) # the version of the interface; @info() says which network it is

option(@FAST "Vector kernels for this machine: faster, the last digits are the machine's own" OFF)

include(CTest)
include(GNUInstallDirs)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release)
endif()

add_library(@@ STATIC @@.c)
add_library(@@::@@ ALIAS @@)
target_include_directories(@@ PUBLIC
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set_target_properties(@@ PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
if(@FAST)
  target_compile_definitions(@@ PRIVATE @FAST)
endif()
if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
  if(@FAST)
    target_compile_options(@@ PRIVATE -O3 -march=native -ffp-contract=fast)
  else()
    target_compile_options(@@ PRIVATE -ffp-contract=off)
  endif()
endif()
if(UNIX)
  target_link_libraries(@@ PUBLIC m)
endif()

# Where the prefix is as seen from the installed file, so that the whole may be moved.
file(RELATIVE_PATH @PREFIX "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
configure_file(@@.pc.in @@.pc $AT$ONLY)
install(TARGETS @@ EXPORT @@-config ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES @@.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/@@.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(EXPORT @@-config NAMESPACE @@:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/@@)

if(BUILD_TESTING)
  add_executable(@test @test.c)
  target_link_libraries(@test PRIVATE @@)
  add_test(NAME @test COMMAND @test)
endif()
"""

_PKG_CONFIG = """\
prefix=${{pcfiledir}}/$AT$@PREFIX$AT$
includedir=${{prefix}}/$AT$CMAKE_INSTALL_INCLUDEDIR$AT$
libdir=${{prefix}}/$AT$CMAKE_INSTALL_LIBDIR$AT$

Name: @@
Description: A Kolmogorov-Arnold network of shape {shape} as C
Version: $AT$PROJECT_VERSION$AT$
Cflags: -I${{includedir}}
Libs: -L${{libdir}} -l@@ -lm
"""

_BUILD: dict[CForm, str] = {
    "files": """\
    cc -std=c99 -O2 -ffp-contract=off -c @@.c
    cc -std=c99 @test.c @@.o -lm -o @test && ./@test      # compares with the golden rows

That is the portable build: the same bits on every machine with the same libm. The fast one has vector kernels for the
processor it is built for, and its last digits are its own:

    cc -std=c99 -D@FAST -O3 -march=native -ffp-contract=fast -c @@.c

Or, with `-D@FAST=ON` for the fast one:

    cmake -B build && cmake --build build && ctest --test-dir build
    cmake --install build --prefix /usr/local

after which `find_package(@@ CONFIG)` brings the target `@@::@@`, and `pkg-config --cflags --libs @@` the flags.
""",
    "single_file": """\
All is in @@.c. Either compile it beside your own files, which then repeat its declarations or include it for them
alone, or include it in one of them:

    #include "@@.c"

    cc -std=c99 -O2 -ffp-contract=off @test.c -lm -o @test && ./@test      # compares with the golden rows

`-D@FAST -O3 -march=native -ffp-contract=fast` in place of `-O2 -ffp-contract=off` builds vector kernels, whose last
digits are the processor's own.
""",
    "header_only": """\
All is in @@.h: declarations wherever it is included, and the definitions in the one file that asks for them:

    #define @IMPLEMENTATION
    #include "@@.h"

    cc -std=c99 -O2 -ffp-contract=off @test.c -lm -o @test && ./@test      # compares with the golden rows

`-D@FAST -O3 -march=native -ffp-contract=fast` in place of `-O2 -ffp-contract=off` builds vector kernels, whose last
digits are the processor's own.
""",
}

_GRADIENT = """
`@gradient(x, dy_dx)` gives the exact derivative of output q by raw input i at `dy_dx[q*@N_IN + i]`, and
`@gradient_batch` the outputs and derivatives of many rows.
"""

_HESSIAN = """
`@hessian(x, y, dy_dx, d2y_dx2)` gives the outputs, the derivatives and the second derivatives, that of output q by raw
inputs a and b at `d2y_dx2[(q*@N_IN + a)*@N_IN + b]`; y and dy_dx may be null. `@hessian_batch` does so for many rows.
"""

_WITHOUT = "- `-D@NO_GRADIENT` leaves out `@gradient` and `@gradient_batch`.\n"
_WITHOUT_BOTH = "- `-D@NO_GRADIENT` leaves out `@gradient`, `@hessian` and their batches.\n"

_README = """\
# @@: a Kolmogorov-Arnold network as C

Shape {shape}. Raw features in: {inputs}, {what} out: {outputs}, computed in `{real}`. C99, needs libm only, usable from
C++, re-entrant, allocates nothing. `@info()` returns the names, units and training ranges, the formula and the SHA-256
of the network as JSON.

$FORMULA$

## Build

{build}
## Call

    @real x[@N_IN] = {{ ... }}, y[@N_OUT];
    int code = @predict(x, y);      /* or @predict_batch for many rows */
{gradient}
Codes: 0 fine; -1 a null pointer; -2 an input that is infinite, NaN where none may be missing, or no number of a
category; -3 a function outside its domain; -4 a result that is not finite; -5 a stride that is too small. After -2, -3
and -4 every output of that row is NaN.

## Switches

- `-D@NO_INFO` leaves out `@info` and its text.
- `-D@NO_SELFTEST` leaves out the golden rows, `@selftest` and `@golden` (and `@test.c` with them).
{without}- `-D@TABLE='__attribute__((section(".model")))'` places the constant tables.
- `-D@HOT='__attribute__((target_clones("arch=x86-64-v3","default")))'` compiles the inner loops for several processors.
- Fast math is refused, because it removes the checks for NaN; `-D@ALLOW_FAST_MATH` builds without them.
"""
