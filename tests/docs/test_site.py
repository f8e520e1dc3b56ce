"""The site: it builds without a warning, every tutorial runs, and its search finds what a newcomer types."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.paths import DOCS, ROOT
from tests.support.programs import skip

TYPED = (
    "bfloat16",
    "request cache",
    "Pareto front",
    "leave-one-out",
    "simplify an expression",
    "information criterion",
    "degree",
    "order",
    "n_init",
    "learning rate",
    "early stopping",
    "back-pressure",
    "rate limit",
    "thread pool",
    "test vector",
    "confidence interval",
    "custom function",
    "missing values",
    "overfitting",
    "quantization",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built with warnings as errors; notebooks that ran before are not run again."""
    for package in ("sphinx", "furo", "myst_nb", "ipykernel", "sphinx_design", "sphinx_copybutton"):
        pytest.importorskip(package, reason=f"needs {package}: make docs installs it")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "-q",
        "-d",
        str(folder / "doctrees"),
        str(DOCS),
        str(folder / "html"),
    ]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def index(site: Path) -> dict[str, dict[str, int | list[int]]]:
    """The terms of the index that the search reads, with the pages that have them."""
    text = (site / "searchindex.js").read_text("utf-8")
    found = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    return {"terms": found["terms"], "titles": found["titleterms"]}


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("words", TYPED)
def test_the_search_finds_what_a_newcomer_types(site, words):
    language = importlib.import_module("sphinx.search.en").SearchEnglish({})
    pages = None
    for word in language.split(words):
        if len(word) < 3 or word.lower() in language.stopwords:
            continue
        stem = language.stem(word.lower())
        having: set[int] = set()
        for terms in index(site).values():
            found = terms.get(stem, terms.get(word.lower(), []))
            having |= {found} if isinstance(found, int) else set(found)
        pages = having if pages is None else pages & having
    assert pages


@pytest.mark.slow
@pytest.mark.extended
def test_every_link_within_the_site_leads_somewhere(site):
    pages = {page: page.read_text("utf-8") for page in site.rglob("*.html")}
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    broken = []
    for page, text in pages.items():
        for link in re.findall(r'(?:href|src)="([^"]+)"', text):
            if re.match(r"[a-z]+:|//", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path.partition("?")[0]).resolve() if path else page
            known = target in pages and (not anchor or anchor in anchors[target])
            if not (known or (target.exists() and target.suffix != ".html")):
                broken.append(f"{page.relative_to(site)}: {link}")
    assert broken == []


@pytest.mark.slow
@pytest.mark.extended
def test_programs_find_every_page_as_text(site):
    listed = re.findall(r"\]\((\S+\.txt)\)", (site / "llms.txt").read_text("utf-8"))
    assert len(listed) > 50
    assert all((site / page).read_text("utf-8").strip() for page in listed)
    assert "kanserve.find_formulas" in (site / "llms-full.txt").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.extended
def test_the_tutorial_on_browsers_runs_its_network_in_the_page(site):
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = shutil.which("chromium") or skip("chromium")
    if not (site / "_static" / "onnxruntime").is_dir():
        skip("onnxruntime-web")
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync.sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://127.0.0.1:{server.server_port}/tutorials/browser.html")
        frame = page.frames[1]
        frame.wait_for_function("window.ask && document.getElementById('said').textContent.includes('predictions')")
        shares = frame.evaluate("ask([[0, 0], [1.9, -1.9]]).then((found) => [...found])")
        browser.close()
        server.shutdown()
    assert shares[0] > 0.9 and shares[3] > 0.9  # flower, then meadow
    assert all(url.startswith(("http://127.0.0.1", "data:", "blob:", "about:")) for url in asked), asked
