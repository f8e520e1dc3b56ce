"""A C program of many networks, and what it answers to the rows of each."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kanserve.network.export_options import Precision
from kanserve.network.kan import Kan
from tests.support.c_builds import C, run, written
from tests.support.networks.random_networks import rows
from tests.support.row_agreement import TYPES, in_type

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
    (folder / "x").write_bytes(b"".join(array.astype(TYPES[precision]).tobytes() for array in x.values()))
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
