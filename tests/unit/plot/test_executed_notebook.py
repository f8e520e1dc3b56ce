"""A notebook that is run: every rich display, and all of them drawn by a real browser."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.servers.studios import CHROMIUM, needs_browser

nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

pytestmark = [pytest.mark.slow, pytest.mark.extended]

CELLS = {
    "setup": """
import sys; sys.path[:0] = [ROOT, ROOT + "/exporters"]
import numpy as np, kanserve
from tests.support.sessions import law
kan, data = law()
session = kanserve.Session(kan, data).snap("x->h1", "sin")
""",
    "network": "kan",
    "data": "data",
    "formula": "kan.formula()",
    "session": "session",
    "snapshot": "session.snapshot()",
    "separability": "kanserve.separability(kan, data)",
    "artifact": "kanserve.compile(kan, name='law', data=data)",
    "estimator": "kanserve.KANRegressor(hidden=2).fit(data.x, data.y[:, 0])",
    "findings": "kanserve.find_formulas(data, max_fits=60)",
    "plot": "kan.plot()",
    "plot_edge": "session.plot_edge('x->h1')",
    "residuals": "kanserve.plot_residuals(kan, data)",
    "losses": "kanserve.plot_losses(session.history)",
    "interactions": "kanserve.interactions(kan, data).plot()",
    "fit": "fitted = kanserve.fit([2, 1, 1], data, starts=2, progress=True)",
    "simplify": "small = kanserve.simplify(fitted, data, progress=True)",
    "search": "found = kanserve.find_formulas(data, max_fits=60, progress=True)",
    "quiet": "kanserve.fit([2, 1, 1], data, starts=1); None",
    "widget": "session.widget()",
    "show": "kan.show(data)",
    "without anywidget": "sys.modules['kanserve.studio.notebook_widget'] = None; kan.show(data)",
}


@pytest.fixture(scope="module")
def outputs() -> dict[str, list[Any]]:
    """The outputs of each cell."""
    import nbformat

    needs_browser()  # the widget is the built page
    cells = [nbformat.v4.new_code_cell(code.strip().replace("ROOT", repr(str(ROOT)))) for code in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": "/"}}
    )
    client.execute()
    return {name: cell["outputs"] for name, cell in zip(CELLS, notebook.cells, strict=True)}


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    path = needs_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM)
        yield browser.new_page(viewport={"width": 1000, "height": 800})
        browser.close()


def html(found: list[Any]) -> str:
    """The HTML of a cell's one display."""
    shown = [one["data"]["text/html"] for one in found if "text/html" in one.get("data", {})]
    assert len(shown) == 1, found
    return str(shown[0])


QUIET = ("setup", "quiet")


@pytest.mark.parametrize("name", [name for name in CELLS if name not in QUIET])
def test_it_is_drawn(outputs: dict[str, list[Any]], page: Any, name: str):
    text = html(outputs[name])
    assert "<script" not in text or name == "estimator"  # scikit-learn's diagram has one
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    for theme in ("true", "false"):
        page.set_content(f"<body data-jp-theme-light={theme}><div id=output>{text}</div>")
        box = page.locator("#output").bounding_box()
        assert box["height"] > 20 and faults == []
        drawn = page.evaluate(
            "[...document.querySelectorAll('#output svg')].filter((e) => e.getBoundingClientRect().width > 10).length"
        )
        formulas = page.evaluate(
            "[...document.querySelectorAll('#output math')].filter((e) => e.getBoundingClientRect().width > 10).length"
        )
        assert drawn or formulas or "<table" in text


def test_nothing_is_shown_where_nothing_is_asked_for(outputs: dict[str, list[Any]]):
    assert [outputs[name] for name in QUIET] == [[], []]


def test_a_widget_has_its_view_and_its_picture_and_without_anywidget_the_picture_says_what_to_install(
    outputs: dict[str, list[Any]],
):
    for name in ("widget", "show"):
        (shown,) = [one["data"] for one in outputs[name] if "data" in one]
        assert "application/vnd.jupyter.widget-view+json" in shown
    assert any("kanserve[notebook]" in one.get("text", "") for one in outputs["without anywidget"])
