"""The documentation site, built by Sphinx: `make docs` writes it, `make docs-serve` shows it.

Pages are Markdown (MyST). Those of the tutorials are notebooks as text: their cells run when the site is built, and are
run again only when they or kanserve change. Names of the API come from docstrings.
"""

import hashlib
import os
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
for folder in (HERE / "_sphinx", ROOT / "exporters", ROOT):
    sys.path.insert(0, str(folder))
# The cells of the tutorials run in processes of their own, which import this checkout and take one core each.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(ROOT), str(ROOT / "exporters"), os.environ.get("PYTHONPATH")])
)
os.environ.setdefault("OMP_NUM_THREADS", "1")

from kanserve import __version__  # noqa: E402


def sources_digest() -> str:
    """What tells one state of kanserve from another, so that notebooks are run again when it has changed."""
    sources = [*(ROOT / "kanserve").rglob("*.*"), *(ROOT / "exporters").rglob("*.py")]
    every = sorted(path for path in sources if path.suffix in (".py", ".c", ".h", ".csv"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in every)).hexdigest()[:16]


project = "kanserve"
author = "the kanserve developers"
copyright = "the kanserve developers, Apache-2.0"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "repository_pages",
    "reference_pages",
    "reference_targets",
    "search_words",
    "flags",
    "llms_pages",
    "mathml",
    "browser_runtime",
    "live_pages",
]
exclude_patterns = ["_build", "_sphinx", "_browser", "**/.ipynb_checkpoints"]
root_doc = "index"
nitpicky = True

# Markdown and notebooks
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_cache_path = os.environ.get("NOTEBOOKS_CACHE", str(HERE / "_build" / "notebooks" / sources_digest()))
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_merge_streams = True
nb_number_source_lines = False

# The API
default_role = "code"  # docstrings write names in single backticks
autodoc_typehints = "none"  # the Parameters sections have the types, in words
autodoc_member_order = "bysource"
autoclass_content = "class"
autosummary_generate = False
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
add_module_names = False
toc_object_entries_show_parents = "hide"

# The pages
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"kanserve {version}"
html_logo = html_favicon = "_static/logo.svg"  # one curve, to be told from others at 16 pixels
html_static_path = ["_static"]
html_css_files = ["kanserve.css"]
html_js_files = ["versions.js", "tables.js"]
html_search_scorer = str(HERE / "_static" / "search_order.js")
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
    "light_css_variables": {
        "color-brand-primary": "#0b5fa5",
        "color-brand-content": "#0b5fa5",
        "color-code-background": "#f5f7fa",
        "font-stack": "-apple-system, BlinkMacSystemFont, 'Segoe UI', Inter, Roboto, Helvetica, Arial, sans-serif",
        "font-stack--monospace": "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace",
    },
    "dark_css_variables": {"color-brand-primary": "#7db8ec", "color-brand-content": "#7db8ec"},
}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# /llms.txt, for readers that are programs
llms_summary = (
    "kanserve trains Kolmogorov-Arnold networks (KANs), turns them into formulas, exports them as ONNX, C and NumPy, "
    "and serves predictions, exact derivatives and formulas over gRPC and REST."
)
