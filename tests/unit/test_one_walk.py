"""One table from the file to every place where its network can go: what lies between parts that pass their own tests.

The table has what tables have: an id, a date, a category, missing values, a currency, and names with spaces and units.
Its German twin has semicolons, decimal commas and its own currency signs.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import kanserve
from kanserve.network.evaluate import evaluate
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support import command_line
from tests.support.rest_port import call, output

pytestmark = pytest.mark.filterwarnings("ignore::kanserve.data.TableWarning")
ROWS = 900
TARGET, AREA, ROOMS, TOWN = "price (€)", "living area (m²)", "rooms", "town"
TOWNS = {"Essen": 0.0, "Köln": 60_000.0, "München": 210_000.0}
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


@pytest.mark.slow
@pytest.mark.extended
def test_a_table_goes_all_the_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)

    def run(*words: str) -> str:
        code, out, err = command_line.run(monkeypatch, capsys, *words)
        assert code == 0, err
        return out

    run("fit", "haeuser.csv", "-t", TARGET, *INPUTS, "--hidden", "2", "--hold-out", "0.25", "-o", "kan.safetensors")
    run("simplify", "kan.safetensors", "haeuser.csv", "-t", TARGET, "--hold-out", "0.25", "-o", "simple.safetensors")
    kan = kanserve.load("simple.safetensors")
    data = kanserve.read_table("houses.csv", TARGET, inputs=[AREA, ROOMS, TOWN])
    assert kanserve.score(kan, data).r2[0] > 0.95
    wanted = evaluate(kan, data.x[:40])[:, 0]

    for language in ("c", "fortran", "numpy", "python", "sql", "excel", "latex"):
        run("export", "simple.safetensors", "-o", f"law.{language}", "--formula-only", language)
        assert "nchen" in Path(f"law.{language}").read_text("utf-8"), language  # ASCII in some
    run("publish", "simple.safetensors", "models", "--name", "houses", "--data", "houses.csv", "--hold-out", "0.25")
    run("predict", "models/houses", "new.csv", "-o", "by_artifact.csv")
    np.testing.assert_allclose(column("by_artifact.csv"), wanted, rtol=1e-6)
    for backend in ("c_source", "onnx_graph", "numpy_source"):
        model = kanserve.load_model("models", "houses", backend=backend)
        np.testing.assert_allclose(model.predict(data.x[:40])[:, 0], wanted, rtol=1e-5)
    low, high = kanserve.load_model("models", "houses").predict_interval(data.x)
    assert 0.85 < ((low <= data.y) & (data.y <= high)).mean() < 0.95

    texts = [[row[AREA], row[ROOMS], row[TOWN]] for row in rows()[:40]]
    with start(Settings(str(folder / "models"), port=0, http_port=0)) as server:
        run("predict", f"{server.address}/houses", "new.csv", "-o", "by_server.csv")
        np.testing.assert_allclose(column("by_server.csv"), wanted, rtol=1e-6)
        with kanserve.Client(server.address) as client:
            named = {AREA: [row[0] for row in texts], ROOMS: [row[1] for row in texts], TOWN: [row[2] for row in texts]}
            np.testing.assert_allclose(client.predict("houses", named)[:, 0], wanted, rtol=1e-6)
            assert client.formula("houses")[0].text == kanserve.formulas(kan)[0].text
        tensor = {"name": "x", "datatype": "FP64", "shape": [40, 3], "data": texts}
        answer = call(server.http_address, "/v2/models/houses/infer", {"inputs": [tensor]})
        np.testing.assert_allclose(output(answer), wanted, rtol=1e-6)


def column(file: str) -> NDArray[np.float64]:
    """The predictions of a file that the command line wrote."""
    with open(file, encoding="utf-8", newline="") as lines:
        return np.array([float(row[TARGET]) for row in csv.DictReader(lines)])
