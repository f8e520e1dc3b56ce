"""The WebAssembly exporter: node runs what it writes, and the numbers are the reference's."""

import json
import subprocess
import sys

import numpy as np
import pytest

from kanserve.errors import MissingDependencyError
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions
from kanserve_exporters import wasm_module as exporter
from kanserve_exporters._shared.source_text import c_identifier, formula_lines
from tests.support.agreement import assert_agrees, eager_float32
from tests.support.networks.kans import ZOO, hostile_names, mixed, rows
from tests.support.programs import want

FIRST = ("mixed", "wide", "classifier")  # of the zoo; with the others in `make test-all`: each compiles for 2 s

RUN = """
import { readFileSync } from "node:fs";
const [folder, prefix] = process.argv.slice(2);
const { load } = await import(`${folder}/${prefix}.mjs`);
const model = await load(readFileSync(`${folder}/${prefix}.wasm`));
const numbers = (texts) => texts.map((one) => one.map(Number));
const words = (values) => Array.from(values, String); // JSON has no NaN
const x = numbers(JSON.parse(readFileSync(0, "utf8")));
const batch = words(model.predictBatch(x.flat()));
const single = x.flatMap((row) => words(model.predict(row)));
const refused = [() => model.predict([]), () => model.predictBatch(Array(x[0].length + 1).fill(0))].map((call) => {
    try { call(); } catch (error) { return error.name; }
});
const chances = model.predictProba ? words(model.predictProba(x[0])) : null;
console.log(JSON.stringify({ batch, single, refused, chances, info: model.info, inputs: model.inputs }));
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Exports a network and gives what node says of rows x."""
    pytest.importorskip("ziglang", reason="needs ziglang")
    want("node")
    program = tmp_path_factory.mktemp("node") / "run.mjs"
    program.write_text(RUN)

    def ran(kan, x, options):
        folder = tmp_path_factory.mktemp("module")
        for path, data in exporter.export(kan, options).items():
            (folder / path).write_bytes(data)
        command = ["node", str(program), str(folder), c_identifier(options.name)]
        texts = json.dumps([[repr(value).replace("inf", "Infinity") for value in row] for row in x.tolist()])
        done = subprocess.run(command, input=texts, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        shape = (len(x), kan.shape[-1])
        for kind in ("batch", "single"):
            said[kind] = np.array([float(text) for text in said[kind]]).reshape(shape)
        return said

    return ran


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name in FIRST else pytest.param(name, marks=pytest.mark.extended) for name in ZOO]
)
def test_node_gives_the_numbers_of_the_reference(name, run):
    kan = ZOO[name]()
    x = rows(kan)
    said = run(kan, x, ExportOptions("net"))
    assert_agrees(said["batch"], evaluate(kan, x))
    np.testing.assert_array_equal(said["single"], said["batch"])
    formula = said["info"]["formula"]
    assert formula == formula_lines(kan) or "kanserve formula" in formula[0]  # nothing to read lies beside the module
    assert said["refused"] == ["RangeError", "RangeError" if x.shape[1] > 1 else None]
    if kan.classes:
        powers = np.exp(said["batch"][0])
        np.testing.assert_allclose([float(text) for text in said["chances"]], powers / powers.sum(), rtol=1e-12)
    else:
        assert said["chances"] is None


@pytest.mark.slow
def test_float_computes_in_float_and_grows_its_memory_for_many_rows(run):
    kan = mixed()
    x = np.resize(rows(kan), (30_000, 2))
    said = run(kan, x, ExportOptions("net", "float"))
    assert_agrees(said["batch"], evaluate(kan, x), eager=eager_float32(kan, x))
    finite = said["batch"][np.isfinite(said["batch"])]
    np.testing.assert_array_equal(finite, finite.astype(np.float32))


@pytest.mark.slow
def test_names_of_strangers_come_out_as_they_are_and_are_no_code(run):
    kan = hostile_names()
    name = '"); process.exit(7); //'
    said = run(kan, rows(kan), ExportOptions(name))
    assert [variable["name"] for variable in said["info"]["inputs"]] == [variable.name for variable in kan.inputs]
    assert said["info"]["name"] == name
    loader = exporter.export(kan, ExportOptions(name))[f"{c_identifier(name)}.mjs"].decode()
    assert "process.exit" not in loader and not any(variable.name in loader for variable in kan.inputs)


def test_the_module_imports_nothing_and_comes_out_the_same_twice(run):
    first, second = (exporter.export(mixed(), ExportOptions("net")) for _ in range(2))
    assert first == second and set(first) == {"net.wasm", "net.mjs"}
    assert not imports(first["net.wasm"])


def imports(module: bytes) -> bool:
    """Whether a WebAssembly module has the section of imports, which is number 2."""
    place = 8
    while place < len(module):
        number, place, size, shift = module[place], place + 1, 0, 0
        while True:
            size |= (module[place] & 127) << shift
            shift, place = shift + 7, place + 1
            if module[place - 1] < 128:
                break
        if number == 2:
            return True
        place += size
    return False


def test_without_ziglang_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ziglang", None)
    with pytest.raises(MissingDependencyError, match=r"kanserve\[cross\]"):
        exporter.export(mixed(), ExportOptions("net"))
