"""C without floating point on small processors: bits, instructions a row, flash, stack and error, beside C in float,
forests of trees by other tools and a perceptron in integers.

    python benchmarks/edge.py

A network of shape [4, 10, 1], splines of 5 intervals, is fitted to 1000 rows. Programs for other processors run in
qemu, which counts instructions; flash is the model's text and data, without libm and what divides and multiplies
floats. Forests have ten trees of depth 8; a row of emlearn's takes integers of 16 bits, as ours does, one of m2cgen's
doubles. The perceptron has two hidden layers of 32 nodes, weights of 8 bits and activations of 16.
Wants gcc for arm-none-eabi with newlib, gcc for riscv64-unknown-elf and qemu-user, and says what is missing.
"""

import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import kanserve as ks
from benchmarks._integer_perceptron import integer_perceptron
from benchmarks._timing import goal, machine, table
from kanserve.network.export_options import ExportOptions, ExportPrecision
from kanserve.network.kan import Kan
from kanserve_exporters import c_source
from tests.support.programs import runs

Array = NDArray[np.float64]

ROWS, CHECKED, COUNTED = 1000, 10_000, (10, 60)
FORMS: tuple[ExportPrecision, ...] = ("int8", "int16", "float")
FLASH = 6 * 1024  # bytes, for the integers
RAM = 256
SHARE = 0.2  # of the instructions of the float export


@dataclass(frozen=True)
class Target:
    """A processor: how programs are built for it, what runs them, and what ends them."""

    compiler: str
    flags: tuple[str, ...]
    runner: tuple[str, ...]
    size: str

    @property
    def missing(self) -> str:
        """The first program that is not here."""
        return next((name for name in (self.compiler, *self.runner[:1]) if not runs(name)), "")


ARM = ("--specs=nano.specs", "--specs=rdimon.specs", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")
BARE = ("-nostdlib", "-ffreestanding", "-fno-tree-loop-distribute-patterns", "-Wl,--no-relax", "-DBARE")
TARGETS = {
    "this machine": Target("gcc", (), (), "size"),
    "Cortex-M0+": Target(
        "arm-none-eabi-gcc",
        ("-mcpu=cortex-m0plus", "-mthumb", *ARM),
        ("qemu-arm", "-cpu", "cortex-m0"),
        "arm-none-eabi-size",
    ),
    "Cortex-M4F": Target(
        "arm-none-eabi-gcc",
        ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", *ARM),
        ("qemu-arm", "-cpu", "cortex-m4"),
        "arm-none-eabi-size",
    ),
    "RV32IMC": Target(
        "riscv64-unknown-elf-gcc",
        ("-march=rv32imc", "-mabi=ilp32", *BARE),
        ("qemu-riscv32",),
        "riscv64-unknown-elf-size",
    ),
}

# Codes by a generator of 32 bits; all outputs become one number, which is printed.
BITS = """
#include "net.h"
#ifndef BARE
#include <stdio.h>
#endif
static uint32_t hash = 2166136261u, state = 1u;
static void all(void)
{
    uint16_t x[net_N_IN], y[net_N_OUT];
    for (int row = 0; row < ROWS; row++) {
        for (int i = 0; i < net_N_IN; i++) x[i] = (uint16_t)((state = state*1664525u + 1013904223u) >> 16);
        net_predict(x, y);
        for (int q = 0; q < net_N_OUT; q++) hash = (hash ^ y[q])*16777619u;
    }
}
#ifdef BARE
static long call(long number, long a, long b, long c)
{
    register long a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c, a7 __asm__("a7") = number;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
    return a0;
}
void _start(void)
{
    char text[9] = {0};
    all();
    for (int n = 0; n < 8; n++) text[n] = "0123456789abcdef"[(hash >> (28 - 4*n)) & 15u];
    call(64, 1, (long)text, 8);
    call(93, 0, 0, 0);
}
#else
int main(void) { all(); printf("%08lx", (unsigned long)hash); return 0; }
#endif
"""

# Rows that differ, as many as ROWS; what they give is kept.
LOOP = """
INCLUDE
static volatile NUMBER sink;
int main(void)
{
    NUMBER x[4], y[1];
    for (int i = 0; i < 4; i++) x[i] = INPUT(i);
    for (int row = 0; row < ROWS; row++) {
        CALL;
        sink = y[0];
        x[row & 3] = INPUT(row);
    }
    return 0;
}
"""
INTEGER_INPUT = "#define INPUT(n) (uint16_t)(7919u*(unsigned)(n))\n#include "
FLOAT_INPUT = "#define INPUT(n) (float)(((n)*37 % 97) - 48)/50\n#include "


def main() -> None:
    kan, x, y = fitted()
    print(machine("kanserve", "numpy", "emlearn", "m2cgen"), flush=True)
    print("\n" + bits_table(kan))
    rows, misses = [], []
    for name in ("Cortex-M0+", "Cortex-M4F"):
        if TARGETS[name].missing:
            print(f"{name} is left out: {TARGETS[name].missing} is not installed")
            continue
        measured: dict[str, tuple[float, int, int]] = {}
        for form in FORMS:
            measured[form] = measure(TARGETS[name], *network_sources(kan, form))
        measured |= {tool: measure(TARGETS[name], *sources) for tool, sources in peers(x, y).items()}
        exact = errors(kan, x, y)
        for way, (instructions, flash, stack) in measured.items():
            rows.append([name, way, f"{instructions:,.0f}", f"{flash:,}", str(stack), exact[way]])
        if name == "Cortex-M0+":
            instructions, flash, stack = measured["int16"]
            misses += [f"{flash} bytes of flash"] if flash > FLASH else []
            misses += [f"{stack} bytes of stack"] if stack > RAM else []
            misses += ["instructions"] if instructions > SHARE * measured["float"][0] else []
    print(table(["processor", "form", "instructions a row", "flash", "stack", "error, share of the range"], rows))
    print(goal(not misses, "int16 on Cortex-M0+: a fifth of float's instructions, 6 kB, 256 bytes", misses))


def fitted() -> tuple[Kan, Array, Array]:
    """A network of shape [4, 10, 1], and the rows that it was fitted to."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (ROWS, 4))
    y = 0.3 * np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2) + x[:, 2] * x[:, 3]
    return ks.fit([4, 10, 1], (x, y), starts=1, steps=40), x, y


def bits_table(kan: Kan) -> str:
    """Whether the outputs of all rows are the same on each processor."""
    rows, misses = [], []
    for form in ("int8", "int16"):
        seen: dict[str, str] = {}
        for name, target in TARGETS.items():
            if target.missing:
                rows.append([form, name, f"{target.missing} is not installed"])
                continue
            with tempfile.TemporaryDirectory(prefix="kanserve-") as folder:
                files = c_source.export(kan, ExportOptions("net", form))
                build(Path(folder), target, {**files, "main.c": BITS.encode()}, ["net.c"], CHECKED)
                said = subprocess.run(
                    [*target.runner, "./program"], cwd=folder, capture_output=True, text=True, check=True
                )
            seen[name] = said.stdout
            rows.append([form, name, said.stdout])
        misses += [form] if len(set(seen.values())) > 1 else []
    text = goal(not misses, f"the same bits for {CHECKED:,} rows", misses)
    return table(["form", "processor", "all outputs"], rows) + "\n" + text


def network_sources(kan: Kan, form: ExportPrecision) -> tuple[dict[str, bytes], list[str]]:
    """The files of a program that computes rows by the network, and those of them that are compiled as the model."""
    number, begin = ("float", FLOAT_INPUT) if form == "float" else ("uint16_t", INTEGER_INPUT)
    loop = LOOP.replace("INCLUDE", begin + '"net.h"').replace("NUMBER", number).replace("CALL", "net_predict(x, y)")
    return {**c_source.export(kan, ExportOptions("net", form)), "main.c": loop.encode()}, ["net.c"]


def peers(x: Array, y: Array) -> dict[str, tuple[dict[str, bytes], list[str]]]:
    """Programs of the peers that are installed."""
    found: dict[str, tuple[dict[str, bytes], list[str]]] = {}
    if importlib.util.find_spec("m2cgen"):
        import m2cgen

        code = m2cgen.export_to_c(forest(x, y)).replace("double score", "static double score")
        loop = LOOP.replace("INCLUDE", FLOAT_INPUT + '"net.h"').replace("NUMBER", "double")
        model = {"net.h": b"double predict(double *x);\n", "net.c": _wrapped(code).encode()}
        found["m2cgen"] = ({**model, "main.c": loop.replace("CALL", "y[0] = predict(x)").encode()}, ["net.c"])
    if importlib.util.find_spec("emlearn"):
        import emlearn

        with tempfile.TemporaryDirectory(prefix="kanserve-") as folder:
            emlearn.convert(forest(scaled(x), y), method="inline").save(file=f"{folder}/net_forest.h", name="forest")
            header = Path(folder, "net_forest.h").read_bytes()
        loop = LOOP.replace("INCLUDE", "#include <stdint.h>\n" + INTEGER_INPUT + '"net.h"').replace("NUMBER", "int16_t")
        source = b'#include "net_forest.h"\nfloat predict(const int16_t *x) { return forest_predict(x, 4); }\n'
        model = {"net_forest.h": header, "net.c": source, "net.h": b"float predict(const int16_t *x);\n"}
        found["emlearn"] = ({**model, "main.c": loop.replace("CALL", "y[0] = (int16_t)predict(x)").encode()}, ["net.c"])
    if importlib.util.find_spec("sklearn"):
        loop = LOOP.replace("INCLUDE", "#include <stdint.h>\n" + INTEGER_INPUT + '"net.h"').replace("NUMBER", "int16_t")
        model = {"net.c": integer_perceptron(x, y).source().encode(), "net.h": b"int16_t predict(const int16_t *x);\n"}
        found["perceptron"] = ({**model, "main.c": loop.replace("CALL", "y[0] = predict(x)").encode()}, ["net.c"])
    return found


def _wrapped(code: str) -> str:
    return code + "\ndouble predict(double *x) { return score(x); }\n"


def forest(x: Array, y: Array):  # type: ignore[no-untyped-def]  # of scikit-learn, which is optional
    """Ten trees of depth 8."""
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(n_estimators=10, max_depth=8, random_state=0).fit(x, y)


def scaled(x: Array) -> Array:
    """Inputs in -1 to 1 as integers of 16 bits."""
    return np.rint(32767 * x)


def errors(kan: Kan, x: Array, y: Array) -> dict[str, str]:
    """Of our forms the largest difference to the network, measured and proven; of others the largest to the law."""
    rng = np.random.default_rng(1)
    fresh = rng.uniform(-1, 1, (10_000, 4))
    law = 0.3 * np.exp(np.sin(np.pi * fresh[:, 0]) + fresh[:, 1] ** 2) + fresh[:, 2] * fresh[:, 3]
    size = np.ptp(law)
    found = {"float": f"network's own to the law {np.abs(kan(fresh)[:, 0] - law).max() / size:.1e}"}
    for form in ("int8", "int16"):
        text = c_source.export(kan, ExportOptions("net", form))["README.md"].decode()
        row = re.search(r"^\| 0 \| \S+ \| (\S+) \| \S+ \| (\S+) \|", text, re.MULTILINE)
        found[form] = f"{row[2]}, proven {row[1]}" if row else "?"
    if importlib.util.find_spec("sklearn"):
        wrong = np.abs(forest(x, y).predict(fresh) - law).max() / size
        found |= dict.fromkeys(("m2cgen", "emlearn"), f"forest to the law {wrong:.1e}")
        found["perceptron"] = f"to the law {np.abs(integer_perceptron(x, y)(fresh) - law).max() / size:.1e}"
    return found


def build(folder: Path, target: Target, files: Mapping[str, bytes], model: list[str], rows: int) -> None:
    """The program, with so many rows."""
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    flags = ["-std=c99", "-O2", f"-DROWS={rows}", "-Dnet_NO_INFO", "-Dnet_NO_SELFTEST"]
    command = [target.compiler, *target.flags, *flags, *model, "main.c", "-lm", "-o", "program"]
    if "-DBARE" in target.flags:
        command = [*command[: -len(("-lm", "-o", "program"))], "-lgcc", "-o", "program"]
    subprocess.run(command, cwd=folder, check=True)


def measure(target: Target, files: Mapping[str, bytes], model: list[str]) -> tuple[float, int, int]:
    """Instructions a row, and the model's bytes of flash and of stack."""
    counts = []
    with tempfile.TemporaryDirectory(prefix="kanserve-") as name:
        folder = Path(name)
        for rows in COUNTED:
            build(folder, target, files, model, rows)
            log = ("-one-insn-per-tb", "-d", "nochain,exec", "-D", "log")
            subprocess.run([*target.runner, *log, "./program"], cwd=folder, check=True, capture_output=True)
            with (folder / "log").open() as lines:
                counts.append(sum(line.startswith("Trace") for line in lines))
        small = ["-std=c99", "-Os", "-fstack-usage", "-Dnet_NO_INFO", "-Dnet_NO_SELFTEST", "-c", *model]
        plain = [flag for flag in target.flags if not flag.startswith(("--specs", "-Wl"))]
        subprocess.run([target.compiler, *plain, *small], cwd=folder, check=True)
        said = subprocess.run([target.size, "net.o"], cwd=folder, capture_output=True, text=True, check=True).stdout
        text, data, _ = map(int, said.splitlines()[1].split()[:3])
        # No function of ours calls itself, so a chain of all of them is the most.
        stack = sum(int(line.split("\t")[1]) for line in (folder / "net.su").read_text().splitlines())
    return (counts[1] - counts[0]) / (COUNTED[1] - COUNTED[0]), text + data, stack


if __name__ == "__main__":
    main()
