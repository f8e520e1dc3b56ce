"""A network as one HTML file: the studio's page to look at and to move its sliders, without a server or a network."""

import base64
import json
import re
from html import escape
from typing import Any

from kanserve.artifact_compiler import check_files
from kanserve.editing import Session
from kanserve.editing.session_data import of_numbers
from kanserve.errors import InputError
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan
from kanserve.studio.page_files import page_files
from kanserve.studio.page_views import edge_curve, plain
from kanserve.studio.workspace import Workspace

MOST_SHARED_EDGES = 500  # each has a curve of 1 KB in the page
MOST_INSPECTED = 60  # edges whose curves are in the file as the inspector draws them, 3 KB each
FONTS = re.compile(r"inter-latin|KaTeX_(Main-Regular|Math-Italic|Size[1-4]-Regular)")  # that formulas and text need

_FACE = re.compile(r"@font-face\s*\{[^}]*\}")
_URL = re.compile(r"url\(([^)]*)\)")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="generator" content="kanserve {version}">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{styles}</style>
</head>
<body>
<div id="studio"></div>
<noscript>This page needs JavaScript; it asks nothing of any server.</noscript>
<script type="application/json" id="data">{data}</script>
<script type="module">
{script}
make().openShared(document.getElementById("studio"), JSON.parse(document.getElementById("data").textContent));
</script>
</body>
</html>
"""


def shared_page(workspace: Workspace, snapshot: dict[str, Any]) -> str:
    """The page of the present network; `snapshot` is what the page reads first (`Calls`). No row is in it, but the
    range and the histogram of each input. InputError for a network too large."""
    session = workspace.session
    kan = of_numbers(session.kan)
    if kan.edges > MOST_SHARED_EDGES:
        raise InputError(f"A page is shared of at most {MOST_SHARED_EDGES} edges, and this network has {kan.edges:,}.")
    view = snapshot["view"]
    kept = {**view, "snapshot": {**view["snapshot"], "history": [], "undone": 0}, "python": ""}
    # Paths of this machine are nobody's business.
    model = {**snapshot["model"], "repository": "", "load": "", "shared": True}
    data = {
        "snapshot": {**snapshot, "model": model, "view": kept},
        "edges": _edges(session),
        "constants": plain({"constants": workspace.constants()}),
        "predict": _predictor(kan, workspace.model_name),
    }
    files = {path: body for path, (body, _) in page_files().items()}
    return _PAGE.format(
        version=model["kanserve"],
        title=escape(model["title"] or "network", quote=False),
        styles=_styles(files),
        data=json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        script=_in_script(_module(files["/studio.js"].decode())),
    )


def _edges(session: Session) -> dict[str, Any]:
    largest = sorted(session.snapshot(points=2).edges, key=lambda edge: -edge.share)[:MOST_INSPECTED]
    return {edge.name: plain(edge_curve(session, edge.name)) for edge in largest}


def _predictor(kan: Kan, name: str) -> str:
    """The network as a JavaScript module."""
    files, _ = check_files(kan, ["javascript_source"], ExportOptions(name=name))
    return next(body for path, body in files.items() if path.endswith(".mjs")).decode()


def _module(script: str) -> str:
    """The bundle without its exports: a module in a page has nobody to export to."""
    made = script.replace("export const make =", "const make =", 1)
    return made[: made.rindex("export default")]


def _styles(files: dict[str, bytes]) -> str:
    """The style sheets with the fonts in them; faces that the page does not need are left out."""

    def face(found: re.Match[str]) -> str:
        address = _URL.search(found[0])
        path = "/" + address[1].strip("'\"").lstrip("/") if address else ""
        if path not in files or not FONTS.search(path):
            return ""
        data = base64.b64encode(files[path]).decode()
        return found[0].replace(address[0] if address else "", f"url(data:font/woff2;base64,{data})")

    return _FACE.sub(face, files["/katex.css"].decode() + files["/studio.css"].decode()).replace("</", "<\\/")


def _in_script(text: str) -> str:
    """A script that no reader of HTML takes for the end of itself."""
    return text.replace("</", "<\\/").replace("<!--", "\\x3c!--")
