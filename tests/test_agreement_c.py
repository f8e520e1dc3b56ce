"""The C source of the zoo and of 200 random networks: builds in silence, is the network, and stays within its arrays.

Many networks are one translation unit, which costs the compiler a third of the time of as many files and shows that
nothing has a name without the model's prefix.
"""

import platform
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.network.kan import Kan
from kanserve.options import Precision
from kanserve_exporters import c_source
from tests.c_builds import CPP, SANITIZED, C, run, written
from tests.networks import CASES, PORTIONS, portion, rows
from tests.verdict import TYPES, assert_held, in_type

# The widths of vectors that there are kernels for; a processor that has none of them gets what it has.
WIDTHS = ("native", "native", "x86-64", "x86-64-v3", "native") if platform.machine() == "x86_64" else ("native",) * 5
# Of each access, which takes half of the time; what lies outside an array is found by the address.
WITHOUT_PLACES = ("-fno-sanitize=null,alignment,pointer-overflow,object-size",)

# Each network's rows at once, then one by one, each row and each answer in memory of just its size.
MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "all.c"

typedef struct {
    size_t rows, inputs, outputs;
    int (*predict)(const REAL *, REAL *);
    int (*batch)(const REAL *, size_t, size_t, REAL *, size_t);
} Network;

static const Network networks[] = {
$NETWORKS$
};

int main(void)
{
    FILE *in = fopen("x", "rb"), *out = fopen("y", "wb");
    size_t n, row;
    if (!in || !out) return 1;
    for (n = 0; n < sizeof networks/sizeof networks[0]; n++) {
        const Network *one = &networks[n];
        const size_t width = one->inputs*sizeof(REAL), depth = one->outputs*sizeof(REAL);
        REAL *x = (REAL *)malloc(one->rows*width), *y = (REAL *)malloc(one->rows*depth);
        REAL *single = (REAL *)malloc(width), *answer = (REAL *)malloc(depth);
        int code, first = 0;
        if (!x || !y || !single || !answer || fread(x, width, one->rows, in) != one->rows) return 2;
        code = one->batch(x, one->rows, one->inputs, y, one->outputs);
        fwrite(y, depth, one->rows, out);
        for (row = 0; row < one->rows; row++) {
            int now;
            memcpy(single, x + row*one->inputs, width);
            now = one->predict(single, answer);
            if ((now != 0) != !(answer[0]*0 == 0)) return 3;
            if (!first) first = now;
            fwrite(answer, depth, 1, out);
        }
        if ((first != 0) != (code != 0)) return 4;
        free(x); free(y); free(single); free(answer);
    }
    return fclose(out) != 0;
}
"""


def write(folder: Path, kans: dict[str, Kan], precision: Precision) -> dict[str, NDArray[np.float64]]:
    """The sources of all networks in the folder, and of the program; the rows it is given, by network."""
    for name, kan in kans.items():
        written(folder, kan, name, precision=precision)
    (folder / "all.c").write_text("".join(f'#include "{name}.c"\n' for name in kans))
    x = {name: in_type(rows(kan), precision) for name, kan in kans.items()}
    sizes = {name: f"{len(x[name])}, {name}_N_IN, {name}_N_OUT" for name in kans}
    table = ",\n".join(f"    {{{sizes[name]}, {name}_predict, {name}_predict_batch}}" for name in kans)
    real = "float" if precision == "float" else "double"
    (folder / "main.c").write_text(MAIN.replace("$NETWORKS$", table).replace("REAL", real))
    (folder / "x").write_bytes(b"".join(one.astype(TYPES[precision]).tobytes() for one in x.values()))
    return x


def answers(
    folder: Path, kans: dict[str, Kan], precision: Precision, *flags: str
) -> dict[str, list[NDArray[np.floating]]]:
    """What the program, built with these flags, writes: for each network the rows at once and one by one."""
    run(*C, *flags, "main.c", "-o", "main", "-lm", at=folder)
    run("./main", at=folder)
    y = np.fromfile(folder / "y", TYPES[precision])
    found, start = {}, 0
    for name, kan in kans.items():
        count, outputs = len(rows(kan)), len(kan.outputs)
        found[name] = list(y[start : start + 2 * count * outputs].reshape(2, count, outputs))
        start += 2 * count * outputs
    assert start == len(y)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("which", "precision"), CASES)
def test_c_is_the_network_and_builds_in_silence_and_stays_in_its_arrays(which, precision, tmp_path, monkeypatch):
    if which != "zoo":  # formulas take longer to write than all else of a source, and stand in a text
        monkeypatch.setattr(c_source, "formula_lines", lambda kan: [])
    kans = portion(which)
    x = write(tmp_path, kans, precision)
    width = f"-march={WIDTHS[PORTIONS.index(which)]}"
    fast = (width, *(f"-D{name}_FAST" for name in kans))
    run(*CPP, "-fsyntax-only", "all.c", at=tmp_path)
    run(*CPP, "-fsyntax-only", *fast, "all.c", at=tmp_path)
    # What takes the compiler long it does in one of the two precisions, by turns. test_c_library.py takes -O3.
    optimised = (PORTIONS.index(which) + (precision == "float")) % 2 == 0
    builds: dict[str, tuple[str, ...]] = {"portable": ("-O0", "-ffp-contract=off", *SANITIZED)}
    if optimised:
        builds["fast"] = ("-O1", "-ffp-contract=fast", *fast)
    elif which in ("zoo", 2):
        some = [f"-D{name}_FAST" for name in list(kans)[:: 1 if which == "zoo" else 4]]
        builds["fast"] = ("-O0", "-ffp-contract=fast", width, *some, *SANITIZED, *WITHOUT_PLACES)
    for build, flags in builds.items():
        for name, (at_once, one_by_one) in answers(tmp_path, kans, precision, *flags).items():
            assert_held(kans[name], x[name], at_once, precision, f"{build} {name}, rows at once")
            if build == "portable":
                assert np.array_equal(at_once, one_by_one, equal_nan=True), f"{name}: a batch gives other bits"
            else:
                assert_held(kans[name], x[name], one_by_one, precision, f"{build} {name}, one by one")
