"""`make functions`: writes the table of functions into the files that cannot read it.

These are the module that runs a network in torch without kanserve, and the C of the training kernels, which is compiled
before the package can be imported.
"""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

from kanserve.formula.printing.unfolding import text_in_x
from kanserve.network.expression import Expr, call, fold, rebuilt
from kanserve.network.functions import FUNCTIONS
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


def torch_functions() -> str:
    """The table of `kanserve.train.torch.network`."""
    lines = []
    for name, row in FUNCTIONS.items():
        text = text_in_x(row.expression, "torch")
        library = re.fullmatch(r"([\w.]+)\(x\)", text)
        lines.append(f'    "{name}": {library[1] if library else f"lambda x: {text}"},\n')
    return f"FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {{\n{''.join(lines)}}}\n"


def c_functions() -> str:
    """The rows of `kanserve/native/lm/function_table.h`: f(x), then f'(x), where `y` is f(x)."""
    lines = []
    for number, row in enumerate(FUNCTIONS.values()):
        slope = fold(row.slope_expression(), partial(_with_y, row.expression))
        lines.append(f"    ROW({number}, {text_in_x(row.expression, 'c kernel')}, {text_in_x(slope, 'c kernel')})")
    return "\n".join(lines) + "\n"


def _with_y(value: Expr, node: Expr, parts: list[Expr]) -> Expr:
    return call("y") if node is value and node.operands else rebuilt(node, parts)


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text)
