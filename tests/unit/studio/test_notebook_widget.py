"""The studio in a notebook's cell: the same calls over messages, and the same page in Chromium by its protocol."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import kanserve
from kanserve.editing import Session
from kanserve.network.kan import equal
from tests.support.paths import ROOT
from tests.support.servers.studios import CHROMIUM, needs_browser
from tests.support.sessions import law

pytest.importorskip("anywidget")

from tests.support.peers.widget_page import Kernel, WidgetPage

pytestmark = pytest.mark.slow  # each starts worker processes

AXE = ROOT / "studio" / "node_modules" / "axe-core" / "axe.min.js"
X = ".tile[data-edge='x->h1']"


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    needs_browser()  # the widget is the built page
    return Kernel(monkeypatch)


@pytest.fixture
def session() -> Session:
    return Session(*law())


@pytest.fixture
def widget(kernel: Kernel, session: Session) -> Iterator[Any]:
    found = session.widget()
    yield found
    found.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = needs_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=CHROMIUM)
        yield opened
        opened.close()


@pytest.fixture
def notebook(browser: Any, kernel: Kernel) -> Iterator[WidgetPage]:
    context = browser.new_context(viewport={"width": 1000, "height": 1700})
    found = WidgetPage(context, kernel)
    yield found
    context.close()
    assert found.faults == []


def test_a_step_in_the_widget_is_a_step_of_the_session(kernel: Kernel, widget: Any, session: Session):
    before = kernel.ask(widget, "snapshot")["data"]["view"]
    assert [edge["name"] for edge in before["snapshot"]["edges"]] == list(session.edges)
    body = {"base": before["revision"], "step": {"kind": "snap", "edge": "x->h1", "function": "sin"}}
    answer = kernel.ask(widget, "steps", body)
    assert answer["status"] == 200 and session.history[0].step == "snap('x->h1', 'sin')"
    assert equal(session.kan, Session(*law()).snap("x->h1", "sin").kan)
    after = kernel.ask(widget, "undo", {"base": answer["data"]["view"]["revision"]})["data"]["view"]
    assert session.history == () and after["snapshot"]["undone"] == 1
    kernel.ask(widget, "redo", {"base": after["revision"]})
    assert len(session.history) == 1


def test_a_step_in_a_cell_is_told_to_the_widget_and_makes_older_steps_stale(
    kernel: Kernel, widget: Any, session: Session
):
    base = kernel.ask(widget, "snapshot")["data"]["view"]["revision"]
    session.zero("x->h1")
    assert kernel.events("changed")[-1]["revision"] == base + 1
    stale = kernel.ask(widget, "steps", {"base": base, "step": {"kind": "refit"}})
    assert stale["status"] == 409 and len(session.history) == 1
    assert len(kernel.ask(widget, "snapshot")["data"]["view"]["snapshot"]["edges"]) == 2


def test_a_second_widget_of_a_session_shows_the_same_state(kernel: Kernel, widget: Any, session: Session):
    second = session.widget()
    session.zero("x->h1")
    revisions = [kernel.ask(one, "snapshot")["data"]["view"]["revision"] for one in (widget, second)]
    assert revisions[0] == revisions[1] > 0
    second.close()
    assert kernel.ask(widget, "snapshot")["status"] == 200


@pytest.mark.parametrize(
    ("path", "given", "more", "status"),
    [
        ("nothing", None, {}, 404),
        ("steps", None, {}, 405),
        ("steps", {"base": "0"}, {}, 422),
        ("steps", {"base": 0, "step": {"kind": "snap", "edge": "x->h9", "function": "sin"}}, {}, 404),
        ("snapshot", None, {"method": "DELETE"}, 422),
        ("snapshot", None, {"body": [1]}, 422),
        ("predict", {"x": [0.0, float("nan")]}, {}, 422),
        ("functions", {"name": "evil", "formula": "().__class__"}, {}, 422),
        ("predict", {"x": "x" * 9_000_000}, {}, 413),
    ],
)
def test_a_message_is_checked_as_a_request_is(
    kernel: Kernel, widget: Any, session: Session, path: str, given: Any, more: Any, status: int
):
    before = session.kan
    answer = kernel.ask(widget, path, given, **more)
    assert answer["status"] == status and answer["data"]["error"]
    assert session.kan is before


def test_a_saved_notebook_has_the_picture_for_where_no_kernel_runs(widget: Any):
    data, _ = widget._repr_mimebundle_()
    assert "<svg" in data["text/html"] and "application/vnd.jupyter.widget-view+json" in data


def test_without_anywidget_the_error_names_the_extra():
    script = (
        "import sys; sys.modules['anywidget'] = None\n"
        "import kanserve\nfrom tests.support.sessions import law\n"
        "try: kanserve.Session(*law()).widget()\n"
        "except kanserve.errors.MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "kanserve[notebook]" in done.stdout


def test_an_edge_is_clicked_snapped_and_undone(notebook: WidgetPage, widget: Any, session: Session):
    page = notebook.page
    notebook.show(widget, "one")
    notebook.sees(".choice")
    before, formula = session.kan, page.inner_text("[data-testid=formula]")
    page.click(X)
    notebook.sees(".choice >> nth=2")
    page.click("text=Snap to sin")
    notebook.sees(f"{X}.snapped")
    assert [done.step for done in session.history] == ["snap('x->h1', 'sin')"]
    assert page.inner_text("[data-testid=formula]") != formula
    notebook.sees("math [data-edge='1-0-0']")  # what is left of the splines still leads to its edge
    notebook.sees(".choice")
    page.click("button[aria-label=Undo]")
    notebook.until(lambda: not page.locator(f"{X}.snapped").count())
    assert equal(session.kan, before)


@pytest.mark.extended
def test_keys_work_in_the_cell_and_do_not_reach_the_notebook(notebook: WidgetPage, widget: Any, session: Session):
    page = notebook.page
    page.evaluate("document.addEventListener('keydown', (e) => (window.heard ??= []).push(e.key))")
    notebook.show(widget, "one")
    notebook.sees(".choice")
    assert page.locator("[data-lm-suppress-shortcuts=true]").count() == 1
    page.click(X)
    notebook.sees(".choice")
    page.keyboard.press("0")
    notebook.until(lambda: len(session.history) == 1)
    notebook.sees(".choice")
    notebook.sees("button[aria-label=Undo]:not(:disabled)")
    page.keyboard.press("Control+z")  # the tile that had the focus is gone
    notebook.until(lambda: not session.history)
    assert page.evaluate("window.heard ?? []") in ([], ["Control"])


@pytest.mark.extended
def test_two_widgets_do_not_share_their_state(notebook: WidgetPage, widget: Any, kernel: Kernel):
    other = Session(*law())
    second = other.widget()
    notebook.show(widget, "one")
    notebook.show(second, "two")
    notebook.until(lambda: notebook.page.locator(".choice >> nth=0").count() == 1)
    notebook.sees("#one .choice")
    notebook.sees("#two .choice")
    notebook.page.click(f"#one {X}")
    notebook.pump()
    assert notebook.page.locator(f"#one {X}.chosen").count() == 1
    assert notebook.page.locator(f"#two {X}.chosen").count() == 0
    second.close()


@pytest.mark.extended
def test_the_widget_follows_the_theme_of_the_notebook_and_axe_finds_nothing(notebook: WidgetPage, widget: Any):
    page = notebook.page
    notebook.show(widget, "one")
    notebook.sees(".choice")
    assert page.get_attribute("#one .studio", "data-theme") == "light"
    for theme in ("light", "dark"):
        page.evaluate(f"document.body.dataset.jpThemeLight = '{str(theme == 'light').lower()}'")
        notebook.sees(f"#one .studio[data-theme={theme}]")
        notebook.until(lambda: "≈" not in page.inner_text("#one .studio"))
        if AXE.is_file():
            page.evaluate(AXE.read_text("utf-8"))
            found = page.evaluate("axe.run('#one', {resultTypes: ['violations']}).then((r) => r.violations)")
            assert [(one["id"], [node["html"][:160] for node in one["nodes"]]) for one in found] == []


@pytest.mark.extended
def test_a_view_that_is_removed_leaves_nothing_behind(notebook: WidgetPage, widget: Any):
    notebook.show(widget, "one")
    notebook.sees(".choice")
    notebook.page.evaluate("(name) => window.ends[name].then?.((end) => end()) ?? window.ends[name]()", widget.model_id)
    assert notebook.page.locator(".studio").count() == 0


def test_outside_of_notebooks_a_network_is_shown_as_its_formulas(capsys: pytest.CaptureFixture[str]):
    kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)}).show()
    assert "y = 2*x + 1" in capsys.readouterr().out
