"""`make functions`: writes the table of functions into the files that cannot read it.

These are the module that runs a network in torch without kanserve, and the C of the training kernels, which is compiled
before the package can be imported.
"""

import subprocess
import sys
from pathlib import Path

from kanserve.formula.printing.function_texts import c_functions, torch_functions
from tests.support.paths import ROOT

TORCH = ROOT / "kanserve/train/torch/network.py"
C = ROOT / "kanserve/native/lm/function_table.h"
_HEADER = "/* kanserve/network/functions.py, written by `make functions`: f(x), then f'(x), where `y` is f(x). */\n"


def written() -> dict[Path, str]:
    """The files as they should be."""
    text = TORCH.read_text()
    start = text.index("FUNCTIONS: dict")
    end = text.index("\n}\n", start) + len("\n}\n")
    torch = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TORCH), "-"],
        input=text[:start] + torch_functions() + text[end:],
        capture_output=True,
        text=True,
        check=True,
    )
    return {TORCH: torch.stdout, C: _HEADER + c_functions()}


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text)
