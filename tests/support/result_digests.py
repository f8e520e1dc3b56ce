"""Digests of about eighty results, and which of them differ from another commit's: for changes that should change none.

    python -m tests.support.result_digests --since HEAD~1     # this tree beside a commit
    python -m tests.support.result_digests                    # this tree's digests alone, as JSON

Both trees compute here and now, one after the other, so the processor and the versions of packages are the same.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import kanserve as ks
from tests.support.networks.kans import ZOO
from tests.support.paths import ROOT


@dataclass(frozen=True)
class Case:
    """One result: its name and what computes it."""

    name: str
    compute: Callable[[], bytes]


def _kan_bytes(kan: Any) -> bytes:
    """The network as it is saved."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.kan"
        ks.save(kan, path)
        if path.is_file():
            return path.read_bytes()
        return b"".join(part.read_bytes() for part in sorted(path.rglob("*")) if part.is_file())


def _rows(law: str, count: int = 300, columns: int = 2, noise: float = 0.0) -> Any:
    """Samples of a law of x1, x2, ...; the same ones each time."""
    rng = np.random.default_rng(7)
    x = rng.uniform(0.5, 2.5, (count, columns))
    names = {f"x{i + 1}": x[:, i] for i in range(columns)} | {"np": np}
    y = eval(law, {"__builtins__": {}}, names)  # the laws stand in this file
    return ks.Dataset(x, y + noise * np.std(y) * rng.standard_normal(count))


def _table(count: int = 240) -> Any:
    """A table with a category, missing values and noise."""
    import pandas as pd

    rng = np.random.default_rng(11)
    area, age, town = rng.uniform(30, 200, count), rng.uniform(0, 80, count), rng.integers(0, 4, count)
    price = 2000 * area - 300 * age + 20000 * town + rng.normal(0, 9000, count)
    area[rng.random(count) < 0.1] = np.nan
    return pd.DataFrame({"area": area, "age": age, "town": np.array(list("ABCD"))[town], "price": price})


def _classes(count: int = 240) -> Any:
    import pandas as pd

    rng = np.random.default_rng(13)
    x = rng.normal(size=(count, 3))
    kind = np.where(x[:, 0] ** 2 + x[:, 1] > 1, "high", np.where(x[:, 2] > 0, "middle", "low"))
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "kind": kind})


FITS: dict[str, dict[str, Any]] = {
    "by default": {},
    "adam": {"optimizer": "adam", "steps": 60},
    "adam in batches": {"optimizer": "adam", "steps": 40, "batch": 64},
    "lbfgs": {"optimizer": "lbfgs", "steps": 30},
    "lm": {"optimizer": "lm", "steps": 20},
    "a grid of 7": {"grid": 7, "steps": 15},
    "grids": {"grid": [3, 6, 12]},
    "noise free": {"noise_free": True},
    "smooth": {"smooth": 0.01},
    "sparse": {"l1": 0.01, "entropy": 0.01, "optimizer": "adam", "steps": 40},
    "two starts": {"starts": 2},
    "huber": {"loss": "huber"},
    "median": {"loss": "quantile"},
    "poisson": {"loss": "poisson"},
    "tweedie": {"loss": "tweedie"},
    "clipped": {"extrapolation": "clip"},
    "monotonic": {"monotonic_cst": [1, 0]},
    "no validation": {"validation": 0.0},
    "patience": {"patience": 3},
    "another seed": {"seed": 5},
}

LAWS = {
    "sum": "x1 + 2 * x2",
    "product": "x1 * x2",
    "sine": "np.sin(3 * x1) + x2",
    "power": "x1 ** 1.5 / x2",
    "exponential": "np.exp(-x1) * x2 ** 2",
    "root": "np.sqrt(x1 ** 2 + x2 ** 2)",
    "logarithm": "np.log(x1 * x2 + 1)",
    "quotient": "x1 / (x1 + x2)",
    "bell": "np.exp(-(x1 - x2) ** 2)",
    "nested": "np.sin(x1 ** 2) * np.cos(x2)",
}


def cases() -> Iterator[Case]:
    """The fits, the searches, the simplifications, the exports."""
    law = "np.exp(np.sin(2 * x1) + x2 ** 2 / 4)"
    for name, options in FITS.items():
        yield Case(f"fit, {name}", partial(_fitted, [2, 3, 1], _rows(law, noise=0.01), **options))
    yield Case("fit, deep", partial(_fitted, [2, 3, 2, 1], _rows(law)))
    yield Case("fit, products", partial(_fitted, [2, (2, 1), 1], _rows("x1 * x2 + x1")))
    yield Case("fit, a fitted network", lambda: _fitted(ks.fit([2, 2, 1], _rows(law), steps=5), _rows(law), steps=5))
    yield Case("fit, a table", partial(_fitted, [3, 2, 1], _table(), target="price"))
    yield Case("fit, classes", partial(_fitted, [3, 2, 3], _classes(), target="kind"))
    yield Case("estimator", lambda: _predictions(ks.KANRegressor(random_state=0), _rows(law, noise=0.05)))
    yield Case("intervals", lambda: _predictions(ks.KANRegressor(intervals=True, random_state=0), _rows(law, 90)))
    for name, text in LAWS.items():
        yield Case(f"find_formulas, {name}", partial(_formulas, _rows(text), 60))
    for name in ("product", "power", "sine", "root"):
        yield Case(f"find_formulas in noise, {name}", partial(_formulas, _rows(LAWS[name], noise=0.02), 40))
    for name in ("sum", "sine", "logarithm", "exponential"):
        yield Case(f"simplify, {name}", partial(_simplified, _rows(LAWS[name], noise=0.001)))
    sums, line = _rows("x1 + x2"), _rows("x1", columns=1)
    yield Case("prune", lambda: _kan_bytes(ks.prune(ks.fit([2, 5, 1], sums, seed=1), sums)))
    yield Case("symbolify", lambda: _kan_bytes(ks.symbolify(ks.fit([1, 1], line), line)))
    for name, network in ZOO.items():
        yield Case(f"export, {name}", partial(_files, network))


def _fitted(shape: Any, data: Any, **options: Any) -> bytes:
    return _kan_bytes(ks.fit(shape, data, **options))


def _predictions(estimator: Any, data: Any) -> bytes:
    x, y = np.asarray(data.x), np.asarray(data.y).ravel()
    estimator.fit(x, y)
    parts = [estimator.predict(x)]
    if getattr(estimator, "intervals", False):
        parts.extend(estimator.predict_interval(x))
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


def _simplified(data: Any) -> bytes:
    return _kan_bytes(ks.simplify(ks.fit([2, 2, 1], data), data))


def _formulas(data: Any, max_fits: int) -> bytes:
    return "\n".join(each.formula.text for each in ks.find_formulas(data, max_fits=max_fits)).encode()


def _files(network: Callable[[], Any]) -> bytes:
    """The names and bytes of the files in each format, or why a format has none."""
    kan, parts = network(), []
    for kind in ("onnx_graph", "c_source", "numpy_source", "javascript_source"):
        with tempfile.TemporaryDirectory() as folder:
            try:
                ks.export(kan, Path(folder) / "net", [kind], name="net")
            except ks.KanserveError as error:
                parts.append(str(error).encode())
                continue
            parts += [
                path.name.encode() + path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()
            ]
    return b"\0".join(parts)


def digests() -> dict[str, str]:
    """The digest of each result; an error is a result too."""
    results = {}
    for case in cases():
        try:
            content = case.compute()
        except ks.KanserveError as error:
            content = f"{type(error).__name__}: {error}".encode()
        results[case.name] = hashlib.sha256(content).hexdigest()
    return results


def of_commit(commit: str) -> dict[str, str]:
    """The digests that a commit computes, by this file on its own package and tests."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, commit], cwd=ROOT, check=True)
        try:
            (tree / "tests" / "support" / Path(__file__).name).write_bytes(Path(__file__).read_bytes())
            build = [sys.executable, "-m", "kanserve.native.build", "--here"]
            subprocess.run(build, cwd=tree, check=True, stdout=subprocess.DEVNULL)
            return computed(tree)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A line for each result that is another one, or that only one of the two trees has."""
    return [
        f"{name}: {'differs' if name in then and name in now else 'in one of the trees alone'}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]


def computed(tree: Path) -> dict[str, str]:
    """The digests of a tree, computed by a process with one thread."""
    environment = os.environ | {"PYTHONPATH": f"{tree}:{tree / 'exporters'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", f"tests.support.{Path(__file__).stem}"]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    results: dict[str, str] = json.loads(done.stdout)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", metavar="COMMIT", help="compare with what this commit computes")
    commit = parser.parse_args().since
    if commit is None:
        print(json.dumps(digests(), indent=1))
        return 0
    started = time.perf_counter()
    then, now = of_commit(commit), computed(ROOT)
    different = differences(then, now)
    print(*different, sep="\n", end="\n" if different else "")
    equal = sum(now[name] == digest for name, digest in then.items() if name in now)
    print(f"{equal} of {len(now)} results equal those of {commit} ({time.perf_counter() - started:.0f} s).")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
