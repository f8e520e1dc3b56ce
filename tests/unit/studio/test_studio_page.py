"""The studio's page in the machine's Chromium: the whole road with a mouse and with keys alone, and who it talks to."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest

import kanserve
from kanserve import repository
from kanserve.artifact_compiler import compile
from kanserve.client import Client
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import equal
from kanserve.plot.palette import DARK
from kanserve.serve.settings import Settings
from kanserve.studio.opened_model import Opened
from kanserve.studio.page_files import STATIC
from tests.support.paths import ROOT
from tests.support.peers.studio_pages import chromium, page_of, saved, settled, until, violations
from tests.support.servers import server_process
from tests.support.servers.studios import needs_browser, running
from tests.support.sessions import assert_same_structure, law

pytestmark = [pytest.mark.slow, pytest.mark.extended]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    kan, data = law()
    repository.publish(tmp_path / "models", "law", compile(kan, name="law", data=data))
    return tmp_path / "models"


def test_the_contributions_to_the_prediction_are_bars_under_it(browser: Any, root: Path):
    with page_of(browser, root) as (page, studio):
        page.wait_for_selector(".contributions li")
        text = "all => all.map((one) => one.innerText.replace(/\\s+/g, ' '))"
        lines = page.eval_on_selector_all(".contributions li", text)
        names = {line.split(" = ")[0] for line in lines}
        assert names <= {variable.name for variable in saved(studio).inputs} and lines[0][-1].isdigit()
        before = page.inner_text(".contributions")
        page.focus(".slider >> nth=0")
        page.keyboard.press("PageUp")
        until(page, f"document.querySelector('.contributions').innerText !== {json.dumps(before)}")


def test_a_tile_is_clicked_snapped_and_undone(browser: Any, root: Path):
    with page_of(browser, root) as (page, studio):
        before, formula = saved(studio), page.inner_text("[data-testid=formula]")
        page.click(".tile[data-edge='x->h1']")
        page.wait_for_selector(".choice >> nth=2")
        assert "sin" in page.inner_text(".choice >> nth=0")
        page.click("text=Snap to sin")
        settled(page, 1)
        assert "snapped to the function sin" in page.inner_text(".tile[data-edge='x->h1']")
        assert page.inner_text("[data-testid=formula]") != formula
        assert page.inner_text(".top").count("1 unsaved step") == 1
        after = saved(studio)
        assert not equal(before, after)
        page.click("button[aria-label=Undo]")
        settled(page, 0)
        assert equal(saved(studio), before)
        page.click("button[aria-label=Redo]")
        settled(page, 1)
        assert equal(saved(studio), after)


def test_candidates_are_asked_for_with_the_curve_but_not_those_of_edges_that_are_passed_by(browser: Any, root: Path):
    with page_of(browser, root) as (page, _):
        held: list[Any] = []
        asked: list[str] = []
        page.route(re.compile("/api/edges/[^/]+$"), lambda route: held.append(route))  # a curve takes long
        page.on("request", lambda request: asked.append(unquote(urlsplit(request.url).path)))
        edges = page.eval_on_selector_all(".tile:not(.chosen)", "found => found.map((one) => one.dataset.edge)")
        for edge in edges:
            page.click(f".tile[data-edge='{edge}']")
        first, last = (f"/api/edges/{edge}" for edge in (edges[0], edges[-1]))
        assert asked == [f"{first}/candidates", first, last]
        held[-1].continue_()
        page.wait_for_selector(".choice")
        assert asked == [f"{first}/candidates", first, last, f"{last}/candidates"]


def test_the_python_of_the_steps_gives_the_equal_network_in_a_new_process(browser: Any, root: Path, tmp_path: Path):
    with page_of(browser, root) as (page, studio):
        for edge, function in (("x->h1", "sin"), ("h1->z", "exp")):
            page.click(f".tile[data-edge='{edge}']")
            page.wait_for_selector(f".choice:has-text('{function}: R squared')")
            page.click(f".choice:has-text('{function}: R squared')")
            page.click(f"text=Snap to {function}")
            page.wait_for_selector(f".tile.snapped[data-edge='{edge}']")
        settled(page, 2)
        script, wanted = studio.get("export/python")["files"][0]["text"], saved(studio)
    kan, data = law()
    (tmp_path / "steps.py").write_text(script)
    np.savez(tmp_path / "rows.npz", x=data.x, y=data.y)
    kan.save(tmp_path / "kan.safetensors")
    code = (
        "import steps, kanserve, numpy as np; r = np.load('rows.npz');"
        "d = kanserve.Dataset(r['x'], r['y'], ('x', 'L/D'), ('z',));"
        "steps.replay(kanserve.load('kan.safetensors'), d).save('after.safetensors')"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'exporters'}:{tmp_path}", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=environment)
    assert_same_structure(kanserve.load(tmp_path / "after.safetensors"), wanted, data.x)


def test_a_published_version_is_what_a_running_server_answers_with(browser: Any, root: Path):
    with (
        server_process.served(Settings(str(root), port=0, model_control="poll", poll_seconds=0.1)) as (_, address),
        Client(address) as client,
        page_of(browser, root, server=address) as (page, studio),
    ):
        page.wait_for_selector("text=serving v1")
        page.click(".tile[data-edge='L/D->h1']")
        page.wait_for_selector(".choice")
        page.click(".button.take")
        settled(page, 1)
        page.click("text=Publish v2 >> nth=0")
        page.click("dialog .button.main")
        page.wait_for_selector("text=serving v2")
        page.click("dialog >> text=Try it")
        assert page.input_value("dialog .try input") == address
        page.click("dialog >> text=Ask the server")
        page.wait_for_selector("[data-testid=asked]")
        assert "the server, v2" in page.inner_text("[data-testid=asked]")
        assert "the same" in page.inner_text("[data-testid=asked]")
        page.click("dialog >> text=Done")
        until(page, "!document.querySelector('.top').innerText.includes('unsaved')")  # in an event of its own
        rows = law()[1].x[:20]
        np.testing.assert_allclose(client.infer("law", rows).values, evaluate(saved(studio), rows), rtol=1e-9)


def test_every_form_is_checked_and_downloaded_from_the_menu_of_exports(browser: Any, root: Path):
    with page_of(browser, root) as (page, studio):
        page.click(".top >> text=Export")
        with page.expect_download() as got:
            page.click(".exports tr:nth-child(1) .button:not(:disabled)")
        assert got.value.suggested_filename == "law.safetensors"
        assert equal(kanserve.load(got.value.path()), saved(studio))
        until(
            page, "document.querySelectorAll('.exports .button:disabled').length === 0"
        )  # WebAssembly needs a compiler
        forms = page.inner_text(".exports")
        for name in ("NumPy", "C", "ONNX", "JavaScript", "LaTeX", "Steps"):
            assert name in forms
        assert forms.count("✓") >= 3 and "µs" in forms
        assert violations(page) == []
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")


def test_the_page_asks_nobody_but_its_own_server(browser: Any, root: Path):
    asked: list[str] = []
    with page_of(browser, root) as (page, studio):
        page.on("request", lambda request: asked.append(request.url))
        page.reload()
        page.wait_for_selector(".choice")
        page.click("#tab-latex")
        page.click("text=Matrix")
        page.wait_for_selector(".matrix .tile")
        page.evaluate("document.fonts.ready.then(() => true)")
        kept = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
        assert studio.studio.token not in kept
    assert len(asked) > 8
    assert not [url for url in asked if studio.studio.token in url]
    assert {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))} == {studio.host}


def test_hostile_names_are_text_in_the_page(browser: Any):
    names = ('<img src=x onerror="document.title = 1">', "$\\href{javascript:alert(1)}{x}$")
    kan = replace(kanserve.create([2, 1, 1], seed=1), inputs=tuple(map(kanserve.Variable, names)))
    with running(Opened(kan, "<script>document.title = 1</script>"), None) as studio:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(studio.studio.address)
        page.wait_for_selector(".choice")
        page.click(".net .segments >> text=Table")
        page.wait_for_selector(".plain-table")
        shown, found = page.inner_text("body"), page.locator("img, script:not([src]), a[href^='javascript']").count()
        title = page.title()
        page.close()
    assert all(name in shown for name in names) and "<script>" in shown
    assert found == 0 and title != "1"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, root: Path, theme: str):
    with page_of(browser, root, theme) as (page, _):
        until(page, "!document.body.innerText.includes('≈')")
        for view in ("flow", "matrix", "table", "latex", "publish", "own", "keys"):
            match view:
                case "matrix" | "table":
                    page.click(f".net .segments >> text={view.title()}")
                case "latex":
                    page.click("#tab-latex")
                    page.wait_for_selector("pre.code")
                case "publish":
                    page.click("text=Publish v2 >> nth=0")
                case "own":
                    page.keyboard.press("Escape")
                    page.click("text=Write a function…")
                case "keys":
                    page.keyboard.press("Escape")
                    page.click("button[title='Keys and words (?)']")
            assert violations(page) == [], view


def test_keys_alone_go_the_whole_road(browser: Any, root: Path):
    with page_of(browser, root) as (page, studio):
        page.evaluate("document.activeElement.blur()")
        first = page.get_attribute(".tile.chosen", "data-edge")
        page.keyboard.press("j")
        assert page.get_attribute(".tile.chosen", "data-edge") != first
        page.keyboard.press("k")
        assert page.get_attribute(".tile.chosen", "data-edge") == first
        page.wait_for_selector(".choice")
        shown = page.get_attribute(".choice.on", "id")
        page.keyboard.press("ArrowDown")
        assert page.get_attribute(".choice.on", "id") != shown
        page.keyboard.press("Enter")
        settled(page, 1)
        assert "Validation RMSE is now" in page.inner_text("[data-testid=said]")
        page.keyboard.press("Backspace")
        settled(page, 2)
        page.keyboard.press("Control+z")
        settled(page, 1)
        page.keyboard.press("j")
        page.wait_for_selector(".choice")
        page.keyboard.press("0")
        settled(page, 2)
        assert saved(studio).edges == 2
        page.keyboard.press("Control+z")
        settled(page, 1)

        # a slider moves the prediction
        before = page.inner_text("[data-testid=prediction]")
        page.focus(".slider >> nth=0")
        for _ in range(3):
            page.keyboard.press("PageUp")
        until(page, f"document.querySelector('[data-testid=prediction]').innerText !== {json.dumps(before)}")

        # the ruler makes a step with Enter
        page.wait_for_selector(".ruler-track:not(.off)")
        page.focus(".ruler-track")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        settled(page, 2)
        assert saved(studio).edges == 2

        # publish
        page.focus("text=Publish v2 >> nth=0")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open]")
        for _ in range(6):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.type") == "submit":
                break
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog .segments")  # how to use the version
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        assert repository.versions(root, "law") == (1, 2)
        assert equal(repository.read(root, "law").kan(), saved(studio))


def test_at_200_percent_nothing_is_cut_off_sideways_and_targets_are_24_pixels(browser: Any, root: Path):
    with page_of(browser, root, width=700) as (page, _):  # 1400 pixels at 200 %
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0
        small = page.evaluate(
            "[...document.querySelectorAll('button, input, select, [role=slider], [role=option]')]"
            ".map((e) => [e.getBoundingClientRect(), e.outerHTML.slice(0, 90)])"
            ".filter(([b]) => b.width > 0 && (b.width < 23.5 || b.height < 23.5)).map(([b, html]) => html)"
        )
        assert small == []


def test_the_slope_of_an_input_is_read_whole_beside_a_long_name(browser: Any):
    kan = replace(
        kanserve.create([2, 2, 2], seed=1), outputs=tuple(map(kanserve.Variable, ("temperature", "pressure")))
    )
    with running(Opened(kan, "names"), None) as studio:
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.goto(studio.studio.address)
        page.wait_for_selector(".slope span >> nth=3")
        within = page.evaluate(
            "[...document.querySelectorAll('.slope span:last-child')].map((e) => e.getBoundingClientRect().right"
            " <= e.parentElement.getBoundingClientRect().right + 0.5)"
        )
        page.close()
    assert within == [True, True]


def test_a_small_constant_fits_into_its_field(browser: Any, root: Path):
    with page_of(browser, root, width=1100) as (page, studio):
        studio.step("snap", edge="x->h1", function="sin")
        studio.step("set", edge="x->h1", b=-2.1351234e-5)
        field = ".constants input[aria-label='b of x to h1']"
        until(page, f'document.querySelector("{field}")?.value === "-2.1351e-5"')  # the page may still show the snap
        assert page.locator(field).evaluate("(e) => e.scrollWidth - e.clientWidth") <= 0


def test_dragging_the_ruler_selects_no_text(browser: Any, root: Path):
    with page_of(browser, root) as (page, studio):
        page.wait_for_selector(".ruler-track:not(.off)")
        box = page.locator(".ruler-track").bounding_box()
        page.mouse.move(box["x"] + 20, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 60, steps=5)
        assert page.evaluate("getSelection().toString()") == ""
        page.mouse.up()
        until(page, "document.querySelectorAll('.steps li:not(.first):not(.now) code').length === 1")
        assert saved(studio).edges == 1


def test_no_motion_is_made_for_who_wants_none(browser: Any, root: Path):
    with page_of(browser, root) as (page, _):
        page.emulate_media(reduced_motion="reduce")
        assert page.evaluate("getComputedStyle(document.querySelector('.tile')).transitionDuration") == "0s"


def test_the_picture_is_saved_as_svg_and_as_png(browser: Any, root: Path, tmp_path: Path):
    with page_of(browser, root, "dark") as (page, _):
        for kind in ("SVG", "PNG"):
            with page.expect_download() as waiting:
                page.click(f"button[title='Save the picture as {kind}']")
            waiting.value.save_as(tmp_path / kind)
            assert waiting.value.suggested_filename == f"law.{kind.lower()}"
    svg, png = (tmp_path / "SVG").read_text("utf-8"), (tmp_path / "PNG").read_bytes()
    names = [text.text for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"x", "L/D", "h1", "z"} <= set(names) and DARK.paper in svg
    (wide, *_) = re.findall(r'width="(\d+)"', svg)
    assert png.startswith(b"\x89PNG") and int.from_bytes(png[16:20]) == 2 * int(wide)


def test_the_front_of_a_search_grows_while_it_runs(browser: Any, root: Path):
    with page_of(browser, root) as (page, studio):
        seen: list[int] = []
        studio.studio.workspace.events.subscribe(lambda event: seen.append("complexity" in (event or {})))
        page.click("section[aria-label='Simpler formulas'] >> text=Search")
        page.wait_for_selector("section[aria-label='Simpler formulas'] button[aria-pressed]")
        until(page, "!document.querySelector('section[aria-label=\"Simpler formulas\"] [role=status]')")
        assert any(seen)
        page.locator("section[aria-label='Simpler formulas'] button[aria-pressed] >> nth=0").press("Enter")
        assert page.locator("section[aria-label='Simpler formulas'] .button.take:not(:disabled)").count() == 1


def test_the_built_page_is_small_and_carries_the_licenses_of_what_is_in_it():
    needs_browser()
    sizes = {path.name: path.stat().st_size for path in STATIC.rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 900_000
    notes = (STATIC / "THIRD_PARTY_LICENSES.txt").read_text("utf-8")
    for name in ("preact", "@preact/signals", "katex", "inter", "jetbrains-mono"):
        assert name in notes
