"""The C source on other machines: the same bits everywhere, and its size on a microcontroller. `make cross`.

Every network is compiled by ziglang as the portable source that it is (-ffp-contract=off, no fast form) with musl's
libm, whose code is the same for all processors; programs for other processors run in qemu, WebAssembly in node. The
doubles that come out are compared bit for bit with those of x86-64; those of the fast form, which is another on each
processor, with the reference. The first run compiles a C library for each
target, which takes minutes; they are kept in the user's cache folder.
"""

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._timing import goal, installed, machine, table
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan, make_layer
from kanserve.network.splines import uniform_knots
from kanserve.network.training_range import sample
from kanserve.runtime import c_compilers
from kanserve_exporters import c_source
from tests.support.agreement import DOUBLE, error
from tests.support.networks.kans import ZOO, rows
from tests.support.programs import runs

Array = NDArray[np.float64]

NETWORKS = ("wide", "uneven_knots", "uneven_zero", "every_function", "special", "domains", "mixed", "deep", "orders")
ROWS = 2000  # of each network, beside those that are made to be difficult
FLAGS = ("-std=c99", "-O2", "-ffp-contract=off")
FAST_FLAGS = ("-std=c99", "-O3", "-ffp-contract=fast", *(f"-D{name}_FAST" for name in NETWORKS))
NATIVE = "x86_64-linux-musl"
# What runs the program of each target; node gets the program from a small one of ours.
RUNNERS = {
    NATIVE: (),
    "aarch64-linux-musl": ("qemu-aarch64",),
    "arm-linux-musleabihf": ("qemu-arm",),
    "riscv64-linux-musl": ("qemu-riscv64",),
    "wasm32-wasi": ("node", "--no-warnings", "wasi.mjs"),
}

CORTEX = "arm-none-eabi"
CORTEX_FLAGS = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-std=c99", "-Os")
CORTEX_LINK = (
    "-ffunction-sections",
    "-fdata-sections",
    "-Wl,--gc-sections",
    "--specs=nano.specs",
    "--specs=nosys.specs",
)

WASI = """
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";
const wasi = new WASI({ version: "preview1" });
const module = await WebAssembly.compile(readFileSync(process.argv[2]));
process.exit(wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject())));
"""

# For each network its number of rows, then the rows, from standard input; the outputs go to standard output.
MAIN = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
INCLUDES
typedef int predict(const double *, size_t, size_t, double *, size_t);
static int one(predict *f, size_t inputs, size_t outputs)
{
    uint32_t rows;
    if (fread(&rows, sizeof rows, 1, stdin) != 1) return 1;
    double *x = malloc(rows*inputs*sizeof *x), *y = malloc(rows*outputs*sizeof *y);
    if (!x || !y || fread(x, sizeof *x, rows*inputs, stdin) != rows*inputs) return 1;
    f(x, rows, inputs, y, outputs);
    return fwrite(y, sizeof *y, rows*outputs, stdout) != rows*outputs;
}
int main(void) { return CALLS; }
"""

START = """
#include "net.h"
volatile net_real x[net_N_IN], y[net_N_OUT];
int main(void) { return net_predict((const net_real *)x, (net_real *)y); }
"""


def main() -> None:
    kans = {name: ZOO[name]() for name in NETWORKS}
    inputs = {name: difficult_rows(kan) for name, kan in kans.items()}
    print("The C source on other machines")
    print(machine("ziglang") + "\n")
    print(bits(kans, inputs))
    print("\n" + microcontroller({"symbolic [3, 7, 2]": symbolic(), "splines [4, 10, 1]": splines()}))


def difficult_rows(kan: Kan) -> Array:
    """Rows of the training ranges; around them, NaN and infinity; and every knot of the first layer, and beside it."""
    first = kan.layers[0].knots
    places = np.concatenate([first, np.nextafter(first, -np.inf), np.nextafter(first, np.inf)], axis=1).T
    places = np.resize(places * kan.input_scale + kan.input_shift, (max(1, len(places)), kan.shape[0]))
    return np.concatenate([sample(kan, ROWS), rows(kan), places])


def bits(kans: Mapping[str, Kan], inputs: Mapping[str, Array]) -> str:
    """The table of targets: how many doubles differ from those of x86-64 in any bit, and the errors of both forms."""
    want = {name: evaluate(kan, inputs[name]) for name, kan in kans.items()}
    stream = b"".join(np.uint32(len(x)).tobytes() + x.tobytes() for x in inputs.values())
    found = {target: outputs(target, kans, stream, FLAGS) for target in RUNNERS}
    base = found[NATIVE]
    body, misses, slips = [], [], []
    for target, got in found.items():
        fast = outputs(target, kans, stream, FAST_FLAGS)
        if isinstance(got, str) or isinstance(fast, str) or isinstance(base, str):
            reason = next((answers for answers in (got, fast, base) if isinstance(answers, str)), "")
            body.append([target, "-", "-", "-", "-", reason[:200]])
            misses.append(target)
            slips.append(target)
            continue
        values, native = np.frombuffer(got, np.uint64), np.frombuffer(base, np.uint64)
        differ = int((values != native).sum()) if len(values) == len(native) else len(native)
        worst, worst_fast = (largest_error(np.frombuffer(answers, np.float64), want) for answers in (got, fast))
        runner = " ".join(RUNNERS[target][:1]) or "itself"
        body.append([target, str(len(values)), str(differ), f"{worst:.1e}", f"{worst_fast:.1e}", runner])
        if differ or not worst <= DOUBLE:
            misses.append(target)
        if not worst_fast <= DOUBLE:
            slips.append(target)
    total = sum(len(x) for x in inputs.values())
    head = ["target", "doubles", "bits differ", "error", "fast form's", "run by"]
    what = f"the same bits on {len(RUNNERS)} targets, {len(kans)} networks, {total} rows; error ≤ {DOUBLE:g} of scale"
    lines = [goal(not misses, what, misses), goal(not slips, f"the fast form's error ≤ {DOUBLE:g} of scale", slips)]
    return "\n".join([table(head, body), "", *lines])


def largest_error(values: Array, want: Mapping[str, Array]) -> float:
    """The largest error of the networks' outputs, which lie one after the other; infinite where NaN is elsewhere."""
    worst, start = 0.0, 0
    for array in want.values():
        got = values[start : start + array.size].reshape(array.shape)
        start += array.size
        same = np.array_equal(np.isnan(got).all(axis=1), ~np.isfinite(array).all(axis=1))
        worst = max(worst, error(got, array) if same else np.inf)
    return worst


def outputs(target: str, kans: Mapping[str, Kan], stream: bytes, flags: Sequence[str]) -> bytes | str:
    """What the program of a target writes, or the reason why there is none."""
    runner = RUNNERS[target]
    if installed("ziglang") is None:
        return "ziglang is not installed"
    if runner and not runs(runner[0]):
        return f"{runner[0]} is not installed"
    with tempfile.TemporaryDirectory(prefix="kanserve-") as folder:
        for name, kan in kans.items():
            write(folder, c_source.export(kan, ExportOptions(name)))
        calls = " || ".join(f"one({name}_predict_batch, {name}_N_IN, {name}_N_OUT)" for name in kans)
        includes = "\n".join(f'#include "{name}.h"' for name in kans)
        program = MAIN.replace("INCLUDES", includes).replace("CALLS", calls)
        write(folder, {"main.c": program.encode(), "wasi.mjs": WASI.encode()})
        sources = ["main.c", *(f"{name}.c" for name in kans)]
        words = c_compilers.run(
            [[*c_compilers.foreign(target), *flags, *sources, "-o", "program", "-lm"]],
            folder,
            environment=c_compilers.foreign_environment(),
            longest=c_compilers.LONGEST_FOREIGN,
        )
        if words is not None:
            return words
        command = [*runner, "./program"]
        done = subprocess.run(command, cwd=folder, input=stream, capture_output=True, timeout=600)
        return done.stdout if done.returncode == 0 else f"code {done.returncode}: {done.stderr.decode()[:200]}"


def microcontroller(kans: Mapping[str, Kan]) -> str:
    """The table of sizes on a Cortex-M4F, in float: of the model alone, and of a whole program with libm."""
    missing = [program for program in (f"{CORTEX}-gcc", f"{CORTEX}-size") if not runs(program)]
    if missing:
        return goal(False, "a build for Cortex-M4F links", [f"{missing[0]} is not installed"])
    body, misses = [], []
    for name, kan in kans.items():
        sizes = cortex_sizes(kan)
        if isinstance(sizes, str):
            misses.append(f"{name}: {sizes}")
        else:
            body.append([name, *sizes])
    head = ["Cortex-M4F, -Os, float", "model text", "data", "bss", "program text", "data", "bss"]
    return table(head, body) + "\n\n" + goal(not misses, "a build for Cortex-M4F links", misses)


def cortex_sizes(kan: Kan) -> list[str] | str:
    """text, data and bss of the model's object and of the linked program in bytes, or what the compiler says."""
    with tempfile.TemporaryDirectory(prefix="kanserve-") as folder:
        write(folder, {**c_source.export(kan, ExportOptions("net", "float")), "main.c": START.encode()})
        compiler = [f"{CORTEX}-gcc", *CORTEX_FLAGS, "-Dnet_NO_SELFTEST"]
        for arguments in (["-c", "net.c", "-o", "net.o"], [*CORTEX_LINK, "net.c", "main.c", "-o", "program", "-lm"]):
            words = c_compilers.run([[*compiler, *arguments]], folder)
            if words is not None:
                return words
        command = [f"{CORTEX}-size", "net.o", "program"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return [number for line in done.stdout.splitlines()[1:] for number in line.split()[:3]]


def write(folder: str, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        place = Path(folder, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def symbolic() -> Kan:
    """[3, 7, 2], each edge a function."""
    rng = np.random.default_rng(0)
    names = ("sin", "exp", "tanh", "x^2", "cos", "x")
    layers = []
    for i, o in ((3, 7), (7, 2)):
        functions = [[names[(i * j + n) % len(names)] for n in range(i)] for j in range(o)]
        layers.append(make_layer(functions=functions, affine=rng.normal(0, 0.5, (o, i, 4))))
    return Kan(tuple(layers))


def splines() -> Kan:
    """[4, 10, 1], cubic splines on 5 intervals."""
    rng = np.random.default_rng(0)
    knots = uniform_knots(-1, 1, 5, 3)
    shapes = ((4, 10), (10, 1))
    return Kan(
        tuple(
            make_layer(rng.normal(size=(o, i, 8)), knots=knots, base_weight=rng.normal(size=(o, i))) for i, o in shapes
        )
    )


if __name__ == "__main__":
    main()
