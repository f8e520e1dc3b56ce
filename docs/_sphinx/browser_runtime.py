"""The runtime that the tutorial on browsers loads, copied from npm's package into the site: 14 MB, of no other host.

`make docs` installs the package where npm is there. Without it the site is whole, and the page says what it lacks.
"""

import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

PACKAGE = Path(__file__).parents[2] / ".venv" / ".browser" / "node_modules" / "onnxruntime-web"
FILES = ("dist/ort.wasm.min.mjs", "dist/ort-wasm-simd-threaded.mjs", "dist/ort-wasm-simd-threaded.wasm", "LICENSE")

_log = logging.getLogger(__name__)


def _copy(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    if not PACKAGE.is_dir():
        _log.info("onnxruntime-web is not installed: the tutorial on browsers does not run in the site.")
        return
    folder = Path(app.outdir, "_static", "onnxruntime")
    folder.mkdir(parents=True, exist_ok=True)
    for path in (PACKAGE / name for name in FILES if (PACKAGE / name).is_file()):
        shutil.copyfile(path, folder / path.name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Read by Sphinx."""
    app.connect("build-finished", _copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
