"""The site: it builds without a warning, every tutorial runs, and its search finds what a newcomer types."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.paths import DOCS, ROOT
from tests.support.programs import skip

# What newcomers type, and a page that the first three hits must have.
TYPED = {
    "bfloat16": "serving",
    "request cache": "serving",
    "Pareto front": "formulas",
    "leave-one-out": "formulas",
    "simplify an expression": "formulas",
    "information criterion": "formulas",
    "degree": "glossary",
    "order": "glossary",
    "sample": "reference/api/data",
    "importance": "glossary",
    "n_init": "from-scikit-learn",
    "learning rate": "from-scikit-learn",
    "early stopping": "from-scikit-learn",
    "back-pressure": "serving",
    "rate limit": "serving",
    "thread pool": "serving",
    "test vector": "glossary",
    "confidence interval": "training",
    "prediction interval": "training",
    "custom function": "how-to/own-functions",
    "missing values": "tutorials/missing-values",
    "categorical": "tutorials/missing-values",
    "overfitting": "training",
    "quantization": "glossary",
    "extrapolation": "training",
    "hyperparameters": "training",
    "regularization": "training",
    "random seed": "training",
    "loss function": "training",
    "monotonic": "training",
    "symbolic regression": "formulas",
    "install": "installation",
    "TLS": "how-to/secure",
    "token": "how-to/secure",
    "docker": "how-to/deploy",
    "latency": "runbook",
    "drift": "how-to/flagged",
    "Arduino": "tutorials/microcontroller",
    "export to C": "c",
    "save model": "export",
    "pykan": "from-pykan",
    "differential equation": "tutorials/poisson",
}


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


@contextmanager
def opened(site: Path) -> Iterator[tuple[Any, str]]:
    """A page of Chromium, and the address at which a server has the site."""
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = shutil.which("chromium") or skip("chromium")
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync.sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser.new_page(), f"http://127.0.0.1:{server.server_port}"
        browser.close()
        server.shutdown()


@pytest.mark.slow
@pytest.mark.extended
def test_the_search_lists_the_right_page_among_the_first_three(site):
    missed = {}
    with opened(site) as (page, address):
        for words, wanted in TYPED.items():
            page.goto(f"{address}/search.html?q={quote(words)}")
            page.wait_for_function(
                "document.querySelector('#search-results .search-summary')?.innerText.includes('inish')"
            )
            links = page.eval_on_selector_all("ul.search > li > a", "links => links.map((one) => one.pathname)")
            pages = [link.removeprefix("/").removesuffix(".html") for link in links[:3]]
            if wanted not in pages:
                missed[words] = pages
    assert missed == {}


@pytest.mark.slow
@pytest.mark.extended
def test_on_a_phone_no_page_is_wider_than_the_screen_and_tables_of_words_are_lists(site):
    with opened(site) as (page, address):
        page.set_viewport_size({"width": 400, "height": 900})
        for path in ("reference/metrics", "reference/settings", "from-pykan", "genindex", "serving"):
            page.goto(f"{address}/{path}.html")
            assert page.evaluate("document.scrollingElement.scrollWidth") <= 400, path
            hidden = "tables => tables.filter((one) => one.offsetWidth > one.parentElement.clientWidth + 1).length"
            words = "article table.docutils:not(:has(td.text-right))"
            assert page.eval_on_selector_all(words, hidden) == 0, path
        page.goto(f"{address}/reference/metrics.html")
        assert page.locator("table.kan-stacked").count() > 0


class Links(HTMLParser):
    """The anchors of a page and where its elements lead; what a script holds is no element."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []

    @classmethod
    def of(cls, text: str) -> "Links":
        found = cls()
        found.feed(text)
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.targets.append(value)


@pytest.mark.slow
@pytest.mark.extended
def test_every_link_within_the_site_leads_somewhere(site):
    pages = {page: Links.of(page.read_text("utf-8")) for page in site.rglob("*.html")}
    anchors = {page: links.anchors for page, links in pages.items()}
    assert sum(len(links.targets) for links in pages.values()) > 1000
    broken = []
    for page, links in pages.items():
        for link in links.targets:
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
    if not (site / "_static" / "onnxruntime").is_dir():
        skip("onnxruntime-web")
    asked: list[str] = []
    with opened(site) as (page, address):
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/tutorials/browser.html")
        frame = page.frames[1]
        frame.wait_for_function("window.ask && document.getElementById('said').textContent.includes('predictions')")
        shares = frame.evaluate("ask([[0, 0], [1.9, -1.9]]).then((found) => [...found])")
    assert shares[0] > 0.9 and shares[3] > 0.9  # flower, then meadow
    assert all(url.startswith(("http://127.0.0.1", "data:", "blob:", "about:")) for url in asked), asked
