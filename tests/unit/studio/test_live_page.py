"""The studio's page in Chromium: large networks on a canvas, by mouse, keys and touch, and simplifying, seen live."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve import repository
from kanserve.artifact_compiler import compile
from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import equal
from kanserve.studio.opened_model import Opened, open_table
from kanserve.studio.workspace import Workspace
from tests.support.peers.studio_pages import chromium, page_of, saved, settled, until, violations
from tests.support.servers.studios import running
from tests.support.sessions import law

pytestmark = [pytest.mark.slow, pytest.mark.extended]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    kan, data = law()
    repository.publish(tmp_path / "models", "law", compile(kan, ["numpy_source"], name="law", data=data))
    return tmp_path / "models"


def test_an_edge_of_a_large_network_is_selected_on_the_canvas_and_zeroed(browser: Any):
    kan = kanserve.create([60, 20, 2], seed=3)
    with running(Opened(kan, "large"), None) as studio:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(studio.studio.address)
        page.wait_for_selector(".small-grid canvas >> nth=1")
        page.wait_for_selector(".choice")
        painted = page.evaluate(
            "[...document.querySelectorAll('.small-grid canvas')].map((c) => c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data.filter((v, n) => n % 4 === 3 && v > 60).length)"
        )
        assert painted[0] > 1200 * 5 and painted[1] > 40 * 5
        canvas = page.locator(".small-grid canvas >> nth=0")
        box = canvas.bounding_box()
        canvas.click(position={"x": box["width"] - 5, "y": box["height"] - 5})  # the least of all
        page.wait_for_selector(".choice")
        assert "of 200" not in page.inner_text("section[aria-label='Edge inspector'] .head")
        page.click("section[aria-label='Edge inspector'] >> text=Remove")
        until(page, "document.querySelectorAll('.steps li:not(.first):not(.now) code').length === 1")
        assert saved(studio).edges == kan.edges - 1
        page.fill(".find", "s_1_3_4")
        page.press(".find", "Enter")
        until(page, "document.querySelector('.edge-name')?.title === 's_1_3_4'")
        page.close()
    assert faults == []


def by_share(pairs: list[tuple[list[int], float]], axis: int) -> list[int]:
    """The sums or the inputs of a layer, the largest share first."""
    total = {n: sum(share for place, share in pairs if place[axis] == n) for n in {place[axis] for place, _ in pairs}}
    return sorted(total, key=lambda n: -total[n])


def test_each_edge_of_a_large_network_is_reached_by_keys_and_by_touch(browser: Any):
    kan = kanserve.create([60, 20, 2], seed=3)
    with running(Opened(kan, "large"), None) as studio:
        context = browser.new_context(viewport={"width": 1100, "height": 900}, has_touch=True, is_mobile=True)
        page = context.new_page()
        page.goto(studio.studio.address)
        page.wait_for_selector(".small-grid canvas >> nth=1")
        tiles = studio.get("tiles")
        pairs = [(place, share) for place, share in zip(tiles["places"], tiles["shares"], strict=True) if place[0] == 0]
        order = {1: by_share(pairs, 1), 2: by_share(pairs, 2)}
        chosen = "document.querySelector('.edge-name')?.title"
        board = page.locator(".board >> nth=0")
        board.focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "PageDown", "ArrowLeft"):
            page.keyboard.press(key)
        j, i = order[1][11], order[2][1]
        option = page.locator(f"#{board.get_attribute('aria-activedescendant')}")
        assert f"sum {j + 1}, free spline" in option.inner_text() and f"x{i + 1} " in option.inner_text()
        assert option.get_attribute("aria-posinset") == str(11 * 60 + 2)
        page.keyboard.press("Enter")
        until(page, f"{chosen} === 's_1_{j + 1}_{i + 1}' || {chosen} === 'x{i + 1}->h{j + 1}'")
        page.keyboard.press("End")
        page.keyboard.press("ArrowRight")  # there is nothing further
        assert page.get_attribute("#" + str(board.get_attribute("aria-activedescendant")), "aria-posinset") == str(
            12 * 60
        )
        for key in ("Home", "PageUp", "PageUp"):  # back to what a finger sees first
            page.keyboard.press(key)
        page.wait_for_timeout(200)
        box = page.locator(".small-grid canvas >> nth=0").bounding_box()
        wide, high = box["width"] / 60, box["height"] / 20
        assert min(wide, high) >= 24  # a finger's width
        page.touchscreen.tap(box["x"] + 1.5 * wide, box["y"] + 0.5 * high)
        j, i = order[1][0], order[2][1]
        until(page, f"{chosen} === 's_1_{j + 1}_{i + 1}' || {chosen} === 'x{i + 1}->h{j + 1}'")
        context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_a_large_network(browser: Any, theme: str):
    with running(Opened(kanserve.create([60, 20, 2], seed=3), "large"), None) as studio:
        page = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme=theme)
        page.goto(studio.studio.address)
        page.wait_for_selector(".small-grid canvas >> nth=1")
        page.wait_for_selector(".choice")
        assert violations(page) == []
        page.close()


def test_a_table_is_fitted_live_then_a_tile_is_snapped_and_undone(browser: Any, monkeypatch: pytest.MonkeyPatch):
    shown, fit = threading.Event(), Workspace.fit
    monkeypatch.setattr(Workspace, "fit", lambda space: shown.wait(120) and fit(space))  # not before the page is there
    with running(open_table(law()[1], "law", [1]), None) as studio:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(studio.studio.address)
        page.wait_for_selector(".first-fit .progress")
        shown.set()
        page.wait_for_selector(".choice")
        assert page.locator(".first-fit").count() == 0
        before, formula = saved(studio), page.inner_text("[data-testid=formula]")
        page.click(".tile[data-edge='x->h1']")
        page.wait_for_selector(".choice:has-text('sin: R squared')")
        page.click(".choice:has-text('sin: R squared')")
        page.click("text=Snap to sin")
        settled(page, 1)
        assert page.inner_text("[data-testid=formula]") != formula and not equal(saved(studio), before)
        page.click("button[aria-label=Undo]")
        settled(page, 0)
        assert page.inner_text("[data-testid=formula]") == formula and equal(saved(studio), before)
        page.close()


def test_categories_and_missing_values_are_chosen_by_name(browser: Any, tmp_path: Path):
    rng = np.random.default_rng(0)
    lines = [
        f"{size:.2f},{kind},{size + 3 * 'abc'.index(kind):.2f}" for size in rng.uniform(0, 5, 40) for kind in "abc"
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["size,kind,y", ",b,4", "2,,5", *lines, ""]))
    with running(open_table(kanserve.read_table(tmp_path / "rows.csv", "y"), "rows", [1]), None) as studio:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(studio.studio.address)
        page.wait_for_selector(".choice")
        middle = float(page.get_attribute("[role=slider]", "aria-valuenow") or "")
        shown = "parseFloat(document.querySelector('[data-testid=prediction]').innerText.replace('\u2212', '-'))"
        for kind, size in (("c", middle), ("b", middle), ("b", np.nan), ("", np.nan)):
            page.select_option("select[aria-label=kind]", kind)
            if np.isnan(size) and page.get_attribute(".input .missing", "aria-pressed") == "false":
                page.click(".input .missing")
            row = np.array([[size, "abc".index(kind) if kind else np.nan]])
            expected = evaluate(saved(studio), row)[0, 0]
            until(page, f"Math.abs({shown} - {expected}) < 0.002")
        assert page.inner_text(".input .value >> nth=0").endswith("missing")
        page.close()


def test_simplifying_is_seen_live_and_ends_with_its_steps(browser: Any, root: Path):
    with page_of(browser, root) as (page, studio):
        before = saved(studio)
        page.click(".ruler >> text=Simplify")
        page.wait_for_selector(".simplifying:has-text('named')")
        assert page.locator(".button.take:disabled").count() == 1
        drawn = page.locator(".simplifying circle").count()
        until(page, "!document.querySelector('.simplifying')")
        assert drawn >= 1 and not equal(saved(studio), before)
        assert "change" in page.inner_text(".changes") and page.locator(".tile.fading").count() == 0
        page.locator(".changes input").press("Home")
        assert page.inner_text(".changes").startswith("change 1 of")
        steps = page.locator(".steps li:not(.first):not(.now) code").all_inner_texts()
        assert steps[-1].startswith("session.symbolify(") and "Simplified." in page.inner_text("[data-testid=said]")
        page.wait_for_selector(".ruler-track:visible")
        page.click(".steps .first button")  # all of it is undone
        settled(page, 0)
        assert equal(saved(studio), before)


def test_a_class_is_chosen_for_its_slopes_and_a_row_is_copied(browser: Any):
    x = np.random.default_rng(2).normal(size=(120, 2))
    data = Dataset(x, np.where(x[:, 0] > 0, "high", "low"), ("pressure", "flow"))
    kan = kanserve.fit([2, 2], data, grid=(3,), starts=1)
    with running(Opened(kan, "classes", data), None) as studio:
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.goto(studio.studio.address)
        page.wait_for_selector(".output.small.shown")
        slopes = []
        for n in (0, 1):
            page.click(f".output.small >> nth={n}")
            page.wait_for_selector(f".output.small:nth-of-type({n + 1}).shown, .output.shown[aria-pressed=true]")
            slopes.append(page.inner_text(".input .slope >> nth=0"))
        assert slopes[0].replace("−", "") == slopes[1].replace("−", "") and slopes[0] != slopes[1]
        page.click("[data-testid=pinned] >> text=copy")
        copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
        assert set(copied["inputs"]) == {"pressure", "flow"}
        assert sum(copied["prediction"].values()) == pytest.approx(1)
        page.click("text=Responses")
        page.click("text=Two inputs")
        page.wait_for_selector(".value-map canvas")
        before = page.inner_text("[data-testid=pinned]")
        page.click(".value-map canvas", position={"x": 5, "y": 5})
        until(page, f"document.querySelector('[data-testid=pinned]').innerText !== {json.dumps(before)}")
        assert violations(page) == []
        context.close()


def test_simplifying_is_stopped_and_the_page_goes_on(browser: Any):
    kan = kanserve.create([8, 6, 1], seed=1)  # to simplify it takes long
    with running(Opened(kan, "wide"), None) as studio:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(studio.studio.address)
        page.wait_for_selector(".choice")
        page.click(".ruler >> text=Simplify")
        page.wait_for_selector(".simplifying circle")
        page.reload()  # what runs is seen by a page that comes later
        page.wait_for_selector(".simplifying")
        page.click(".simplifying >> text=Stop")
        until(page, "!document.querySelector('.simplifying')")
        # What it says depends on whether the worker had begun with the first step.
        said = page.inner_text("[role=alert]")
        assert "stopped before the first step was complete" in said or "nothing has changed" in said
        assert equal(saved(studio), kan)
        page.wait_for_selector(".choice")
        page.click(".button.take:not(:disabled)")
        until(page, "document.querySelectorAll('.steps li:not(.first):not(.now) code').length === 1")
        page.close()
