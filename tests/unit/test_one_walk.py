"""One table from the file to every place where its network can go: what lies between parts that pass their own tests.

The table has what tables have: an id, a date, a category, missing values, a currency, and names with spaces and units.
Its German twin has semicolons, decimal commas and its own currency signs.
"""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import kanserve
from kanserve.cli import app
from kanserve.data.dataset import Dataset
from kanserve.network.encoding import encode
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from kanserve.serve.transport import native_library
from kanserve.studio import process
from kanserve.studio.process import Studio
from tests.support.programs import skip, want
from tests.support.servers.reload_checks import eventually
from tests.support.servers.rest_port import call, output
from tests.support.servers.studios import PAGE, answering

pytestmark = pytest.mark.filterwarnings("ignore::kanserve.data.TableWarning")
ROWS = 900
TARGET, AREA, ROOMS, TOWN = "price (€)", "living area (m²)", "rooms", "town"
TOWNS = {"Essen": 0.0, "Köln": 60_000.0, "München": 210_000.0}
SIMPLE = "simple.safetensors"
INPUTS = ["-i", AREA, "-i", ROOMS, "-i", TOWN]


def rows() -> list[dict[str, Any]]:
    """The table, as values."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(ROWS):
        town = str(generator.choice(list(TOWNS)))
        area, rooms = round(generator.uniform(30, 180), 1), int(generator.integers(1, 7))
        price = 1900 * area + 6000 * rooms + TOWNS[town] + generator.normal(0, 4000)
        sold = f"20{generator.integers(10, 25)}-{generator.integers(1, 13):02}-{generator.integers(1, 29):02}"
        missing = number % 17 == 0
        found.append(
            {
                "id": 40_000 + number,
                "sold": sold,
                TOWN: None if number % 29 == 0 else town,
                AREA: area,
                ROOMS: None if missing else rooms,
                TARGET: round(price, 2),
            }
        )
    return found


def write(path: Path, table: list[dict[str, Any]], german: bool = False) -> None:
    """As a spreadsheet saves it: prices with currency and separators of thousands."""

    def text(name: str, value: Any) -> str:
        if value is None:
            return ""
        if name == TARGET:
            grouped = f"{value:,.2f}"
            return f"{grouped.translate(str.maketrans(',.', '.,'))} €" if german else f"€{grouped}"
        return str(value).replace(".", ",") if german and isinstance(value, float) else str(value)

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=";" if german else ",")
        writer.writerow(table[0])
        writer.writerows([text(name, value) for name, value in row.items()] for row in table)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("walk")
    table = rows()
    write(made / "houses.csv", table)
    write(made / "haeuser.csv", table, german=True)
    write(made / "new.csv", table[:40])
    return made


def test_the_german_twin_is_the_same_table(folder: Path) -> None:
    one, twin = (
        kanserve.read_table(folder / name, TARGET, inputs=[AREA, ROOMS, TOWN]) for name in ("houses.csv", "haeuser.csv")
    )
    np.testing.assert_array_equal(one.x, twin.x)
    np.testing.assert_array_equal(one.y, twin.y)
    assert one.categories == twin.categories == {TOWN: tuple(TOWNS)}


def run(*words: str) -> None:
    """`kanserve words ..` in the folder of the walk, which must succeed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["kanserve", *words])
        try:
            app.main()
        except SystemExit as stop:
            assert not stop.code, words


@pytest.fixture(scope="module")
def kan(folder: Path) -> Kan:
    """The network of the German file, fitted and simplified by the command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("fit", "haeuser.csv", "-t", TARGET, *INPUTS, "--hidden", "2", "--hold-out", "0.25", "-o", "kan.safetensors")
        run("simplify", "kan.safetensors", "haeuser.csv", "-t", TARGET, "--hold-out", "0.25", "-o", SIMPLE)
    return kanserve.load(folder / SIMPLE)


@pytest.fixture
def data(folder: Path, kan: Kan, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The English file; its folder is the working folder."""
    monkeypatch.chdir(folder)
    return kanserve.read_table("houses.csv", TARGET, inputs=[AREA, ROOMS, TOWN])


@pytest.mark.slow
@pytest.mark.extended
def test_a_table_goes_all_the_way(folder: Path, kan: Kan, data: Dataset) -> None:
    assert kanserve.score(kan, data).r2[0] > 0.95
    wanted = evaluate(kan, data.x[:40])[:, 0]

    for language in ("c", "fortran", "numpy", "python", "sql", "excel", "latex"):
        run("export", SIMPLE, "-o", f"law.{language}", "--formula-only", language)
        assert "nchen" in Path(f"law.{language}").read_text("utf-8"), language  # ASCII in some
    run("publish", SIMPLE, "models", "--name", "houses", "--data", "houses.csv", "--hold-out", "0.25")
    run("predict", "models/houses", "new.csv", "-o", "by_artifact.csv")
    np.testing.assert_allclose(column("by_artifact.csv"), wanted, rtol=1e-6)
    for backend in ("c_source", "onnx_graph", "numpy_source"):
        model = kanserve.load_model("models", "houses", backend=backend)
        np.testing.assert_allclose(model.predict(data.x[:40])[:, 0], wanted, rtol=1e-5)
    low, high = kanserve.load_model("models", "houses").predict_interval(data.x)
    assert 0.85 < ((low <= data.y) & (data.y <= high)).mean() < 0.95

    with start(Settings(str(folder / "models"), port=0, http_port=0)) as server:
        answers_as(server.address, kan, wanted)
        tensor = {
            "name": "x",
            "datatype": "FP64",
            "shape": [40, 3],
            "data": [list(row) for row in zip(*named().values(), strict=True)],
        }
        answer = call(server.http_address, "/v2/models/houses/infer", {"inputs": [tensor]})
        np.testing.assert_allclose(output(answer), wanted, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.extended
def test_its_javascript_gives_the_same_numbers(kan: Kan, data: Dataset) -> None:
    node = want("node")
    run("export", SIMPLE, "-o", "javascript", "--formats", "javascript_source", "--name", "houses")
    program = """
        import { readFileSync } from "node:fs";
        import { predict, information } from "./javascript/javascript_source/houses.mjs";
        const rows = readFileSync("new.csv", "utf8").trim().split("\\n").slice(1).map((line) => line.split(","));
        const codes = information.inputs[2].categories;
        const number = (text) => text === "" ? NaN : Number(text);
        const x = rows.map(([id, sold, town, area, rooms]) => [number(area), number(rooms), codes.indexOf(town)]);
        console.log(JSON.stringify(predict(x)));
    """
    done = subprocess.run([node, "--input-type=module"], input=program, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), evaluate(kan, data.x[:40]), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.extended
def test_its_edge_server_gives_the_same_numbers(folder: Path, kan: Kan, data: Dataset) -> None:
    if native_library.library() is None:
        skip("libnghttp2-dev")
    run("export", SIMPLE, "--to", "edge-server", "--name", "houses", "-o", "edge")
    build = re.findall(r"(?m)^    (cc .*\\\n.*)$", Path("edge/README.md").read_text("utf-8"))[0]
    subprocess.run(["sh", "-c", build.replace("-static", "")], cwd=folder / "edge", check=True, timeout=300)
    with subprocess.Popen(["edge/houses", "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = process.stderr.readline().rsplit(" on ", 1)[1].strip()
            answers_as(address, kan, evaluate(kan, data.x[:40])[:, 0])
        finally:
            process.terminate()
            assert process.wait(60) == 0


@pytest.mark.slow
@pytest.mark.extended
def test_the_studio_fits_simplifies_exports_and_publishes_it(folder: Path, data: Dataset) -> None:
    opened: list[Studio] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "page_files", lambda: PAGE)  # npm builds the page's own
        patch.setattr(Studio, "run", lambda studio, ready: opened.append(studio))
        publish = ("--repository", "of_studio", "--name", "houses")
        run("studio", "haeuser.csv", "-t", TARGET, *INPUTS, "--hidden", "2", "--data", "new.csv", *publish)
    with answering(opened[0]) as studio:
        eventually(lambda: studio.get("snapshot")["phase"] == "ready", seconds=60)
        studio.post("simplify", {"base": studio.get("snapshot")["view"]["revision"]})
        eventually(lambda: not studio.get("snapshot")["simplifying"], seconds=60)
        kan, view = studio.network(), studio.get("snapshot")["view"]
        assert kanserve.score(kan, data).r2[0] > 0.95 and view["snapshot"]["history"]
        wanted = evaluate(kan, data.x[:40])[:, 0]
        seen = encode(kan, data.x[:1])[0].tolist()  # the sliders have the numbers that the network sees
        np.testing.assert_allclose(studio.post("predict", {"x": seen})["value"], wanted[:1], rtol=1e-9)
        for form in ("c_source", "numpy_source", "onnx_graph"):
            assert studio.get(f"export/{form}")["largest_gap"] < 1e-5
        assert studio.post("publish", {"base": view["revision"]}) == {"version": 1}
    with start(Settings(str(folder / "of_studio"), port=0)) as server:
        answers_as(server.address, kan, wanted)


def answers_as(address: str, kan: Kan, wanted: NDArray[np.float64]) -> None:
    """A server at this address answers the command line and the client by names and categories, and has the formula."""
    run("predict", f"{address}/houses", "new.csv", "-f", "-o", "by_server.csv")
    np.testing.assert_allclose(column("by_server.csv"), wanted, rtol=1e-6)
    with kanserve.Client(address) as client:
        np.testing.assert_allclose(client.predict("houses", named())[:, 0], wanted, rtol=1e-6)
        assert client.formula("houses")[0].text == kanserve.formulas(kan)[0].text


def named() -> dict[str, list[Any]]:
    """The columns of the new rows."""
    return {name: [row[name] for row in rows()[:40]] for name in (AREA, ROOMS, TOWN)}


def column(file: str) -> NDArray[np.float64]:
    """The predictions of a file that the command line wrote."""
    with open(file, encoding="utf-8", newline="") as lines:
        return np.array([float(row[TARGET]) for row in csv.DictReader(lines)])
