"""A network as WebAssembly: P.wasm, the C source compiled by ziglang, and P.mjs, which calls it, in browsers and node.

The module imports nothing and computes in its own memory. For the network exp(sin πx + y²) called `hello`:

    import { load } from "./hello.mjs";
    const model = await load(await (await fetch("hello.wasm")).arrayBuffer());    // node: await readFile("hello.wasm")
    model.predict([0.5, 1]);        // [7.38905609893065]

A row with a non-finite value, or outside a function's domain, gives NaN. This exporter runs a compiler, which at its
first use compiles a C library for WebAssembly, about 20 seconds of work, and keeps it in the user's cache folder.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kanserve.errors import ExportError
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan
from kanserve.runtime import c_compilers
from kanserve_exporters import c_source
from kanserve_exporters._shared.source_text import c_identifier

TARGET = "wasm32-wasi"  # for its libm; no system calls are used
FLAGS = ("-std=c99", "-O3", "-ffp-contract=off", "-s", "-mexec-model=reactor")


def export(kan: Kan, options: ExportOptions) -> Mapping[str, bytes]:
    """The network as a WebAssembly module with its loader. Equal networks give equal bytes with the same version of
    ziglang. Raises MissingDependencyError without ziglang, and ExportError like the C source."""
    prefix = c_identifier(options.name)
    files = c_source.export(kan, replace(options, gradient=False, hessian=False, c_form="files"))
    names = ["predict_batch", "info", *(["predict_proba"] if kan.classes else [])]
    exported = ["__heap_base", *(f"{prefix}_{name}" for name in names)]
    command = [
        *c_compilers.foreign(TARGET),
        *FLAGS,
        f"-D{prefix}_NO_SELFTEST",
        *(f"-Wl,--export={name}" for name in exported),
        f"{prefix}.c",
        "-o",
        f"{prefix}.wasm",
        "-lm",
    ]
    with c_compilers.workplace() as folder:
        for ending in (".h", ".c"):
            Path(folder, prefix + ending).write_bytes(files[prefix + ending])
        words = c_compilers.run(
            [command], folder, environment=c_compilers.foreign_environment(), longest=c_compilers.LONGEST_FOREIGN
        )
        if words is not None:
            raise ExportError(f"ziglang cannot build {prefix}.c for WebAssembly: {words}")
        module = Path(folder, f"{prefix}.wasm").read_bytes()
    array = "Float32Array" if options.floating == "float" else "Float64Array"
    loader = _LOADER.replace("@@", prefix).replace("ARRAY", array)
    return {f"{prefix}.wasm": module, f"{prefix}.mjs": loader.encode("ascii")}


_LOADER = """\
/* Loads @@.wasm, in browsers and node. Written by kanserve.
 *
 *     const model = await load(bytes);            // the bytes of @@.wasm, or its compiled module
 *     model.predict([...]);                       // an array of outputs
 *     model.predictBatch(rows);                   // rows one after the other, ARRAY; so are the answers
 *     model.predictProba([...]);                  // of a classifier
 *     model.info;                                 // names, units and ranges of inputs and outputs
 *
 * What is not finite, or outside the domain of a function, gives NaN in all outputs of its row.
 */

export async function load(bytes) {
    const compiled = bytes instanceof WebAssembly.Module ? bytes : await WebAssembly.compile(bytes);
    const { exports } = await WebAssembly.instantiate(compiled, {});
    const { memory } = exports;
    const heap = Math.ceil(exports.__heap_base.value / 16) * 16;
    const width = ARRAY.BYTES_PER_ELEMENT;
    exports._initialize?.();

    const info = JSON.parse(text(memory, exports.@@_info()));
    const inputs = info.inputs.length, outputs = info.outputs.length;

    /* The answers of run(address of x, address of y), where x and y lie one after the other on the heap. */
    function compute(x, rows, run) {
        const there = heap + width * x.length, end = there + width * rows * outputs;
        const missing = end - memory.buffer.byteLength;
        if (missing > 0) memory.grow(Math.ceil(missing / 65536));
        new ARRAY(memory.buffer, heap, x.length).set(x);
        run(heap, there);
        return new ARRAY(memory.buffer, there, rows * outputs).slice();
    }

    function row(x) {
        if (x.length !== inputs) throw new RangeError(`A row must have ${inputs} inputs, got ${x.length}.`);
        return x;
    }

    function predictBatch(x) {
        if (x.length % inputs !== 0) throw new RangeError(`Rows must have ${inputs} inputs each, got ${x.length}.`);
        const rows = x.length / inputs;
        return compute(x, rows, (from, to) => exports.@@_predict_batch(from, rows, inputs, to, outputs));
    }

    const model = { inputs, outputs, info, predictBatch, predict: (x) => Array.from(predictBatch(row(x))) };
    if (exports.@@_predict_proba) {
        model.predictProba = (x) => Array.from(compute(row(x), 1, exports.@@_predict_proba));
    }
    return model;
}

function text(memory, address) {
    const bytes = new Uint8Array(memory.buffer);
    let end = address;
    while (bytes[end] !== 0) end++;
    return new TextDecoder().decode(bytes.subarray(address, end));
}
"""
