"""Calls as people type them by mistake: each raises an error of kanserve that says what to do, in a sentence or two.

The tables of the command line's mistakes and of REST's are in `cli/test_mistakes.py` and
`serve/rest/test_rest_refusals.py`.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve.errors import KanserveError

# What is typed, and what the error says.
CALLS = {
    # Data
    "kanserve.Dataset(X, y[:5])": r"with N ≥ 1, got \(60, 2\) and \(5, 1\)",
    "kanserve.Dataset(X)": "missing .* 'y'",
    "kanserve.Dataset(X.ravel(), y)": r"x \(N, inputs\) .* got \(120,\)",
    "kanserve.Dataset(X, y, inputs=('a',))": "name",
    "kanserve.Dataset(X, y, inputs=('a', 'a'))": "'a'",
    "kanserve.Dataset([[1, 'a'], [2, 'b']], [1, 2])": "numbers",
    "kanserve.Dataset([[1, 2], [3]], [1, 2])": "different lengths",
    "kanserve.Dataset(X, np.full(60, np.nan))": "nan|NaN|missing",
    "kanserve.Dataset(X * np.inf, y)": "inf",
    "kanserve.Dataset(X[:0], y[:0])": "N ≥ 1",
    "kanserve.Dataset(X + 1j, y)": "numbers|complex",
    "kanserve.fit([2, 1], frame, target='price')": "'price'.*Its columns: a, b, y",
    "kanserve.fit([2, 1], frame, target=['a', 'b', 'y'])": "input",
    "kanserve.Dataset('rows.csv', y)": "read_table|numbers|text",
    "kanserve.read_table('none.csv', 'y')": "'none.csv' does not exist",
    "kanserve.read_table(folder, 'y')": "folder",
    "kanserve.read_table(folder / 'rows.csv', 'price')": "no column 'price'",
    "kanserve.read_table(folder / 'rows.csv', 'y', inputs=['y'])": "both an input and a target",
    "kanserve.read_table(folder / 'rows.csv', [])": "target",
    "data.split(2)": "between|share|0|1",
    "data.split(0)": "between|share|0|1",
    # Fit
    "kanserve.fit([2, 1])": "missing .* 'data'",
    "kanserve.fit([3, 1], data)": "3|2",
    "kanserve.fit([2, 2], data)": "2|1",
    "kanserve.fit([2], data)": "shape|layer|sizes",
    "kanserve.fit([2, 0, 1], data)": "0|node",
    "kanserve.fit([2, -1, 1], data)": "-1|node",
    "kanserve.fit([2, 1.5, 1], data)": "1.5|whole",
    "kanserve.fit('2,1', data)": "A shape is",
    "kanserve.fit(2, data)": "A shape is",
    "kanserve.fit([2, 1], data, grid=0)": "grid",
    "kanserve.fit([2, 1], data, grid='fine')": "grid",
    "kanserve.fit([2, 1], data, order=9)": "create",
    "kanserve.fit([2, 1], data, steps=-5)": "steps",
    "kanserve.fit([2, 1], data, optimizer='sgd')": "optimizer|sgd",
    "kanserve.fit([2, 1], data, loss='mae')": "loss|mae",
    "kanserve.fit([2, 1], data, learning_rate=-1, optimizer='adam')": "learning_rate",
    "kanserve.fit([2, 1], data, smooth=-1)": "smooth",
    "kanserve.fit([2, 1], data, device='gpu9', optimizer='adam')": "device|gpu9",
    "kanserve.fit([2, 1], data, validation=5)": "validation",
    "kanserve.fit([2, 1], data, seed='x')": "seed",
    "kanserve.fit([2, 1], data, starts=0)": "at least one start",
    "kanserve.fit([2, 1], frame)": "Dataset|target",
    "kanserve.fit([2, 1], 'rows.csv')": "Dataset|read_table",
    "kanserve.fit([2, 1], None)": "Dataset|data",
    # Networks
    "kan([1.0])": "2|features|inputs",
    "kan([[1.0, 2.0, 3.0]])": "2|features|inputs",
    "kan([['a', 'b']])": "numbers",
    "kan(None)": "Rows must",
    "kan(frame[['a']])": "'b'",
    "kanserve.evaluate(kan, [[1.0]])": "2|features",
    "kanserve.evaluate('kan', [[1.0, 2.0]])": "network|Kan",
    "kanserve.score(kan, other)": r"\(N, 2\), got \(60, 1\)",
    "kanserve.load('none.safetensors')": "does not exist",
    "kanserve.load(folder)": "folder",
    "kanserve.load(folder / 'rows.csv')": "not a kanserve network",
    "kanserve.save(kan, folder / 'no' / 'kan.safetensors')": "does not exist",
    "kanserve.save('kan', folder / 'kan.safetensors')": "network|Kan",
    "kanserve.simplify(kan, None)": "Dataset|data",
    "kanserve.simplify(kan, other)": "inputs|columns|names|features",
    "kanserve.prune(kan, data, 2)": "2 positional",
    "kanserve.symbolify(kan, data, functions=['sinus'])": "sinus",
    "kanserve.formulas('kan')": "network|Kan",
    "kanserve.plot_edge(kan, 9, 0, 0)": "9|edge|layer",
    "kanserve.plot_network('kan')": "network|Kan",
    # Formulas
    "kanserve.from_formula('2*x +', ranges={'x': (0, 1)})": "formula|read|end",
    "kanserve.from_formula('2*x', ranges={'x': (1, 0)})": "range|below|order",
    "kanserve.from_formula('foo(x)', ranges={'x': (0, 1)})": "foo",
    "kanserve.from_formula('__import__(\"os\")', ranges={'x': (0, 1)})": "import|formula|read",
    "kanserve.from_formula('', ranges={'x': (0, 1)})": "got the end",
    "kanserve.from_formula('1/0 + x', ranges={'x': (0, 1)})": "divides by 0",
    # Artifacts
    "kanserve.compile(kan, formats=['cobol'])": "cobol.*c_source|c_source",
    "kanserve.compile(kan, name='A/B')": "name",
    "kanserve.compile('kan')": "network|Kan",
    "kanserve.compile(kan, data=other)": r"\(N, 2\), got \(60, 1\)",
    "kanserve.publish(folder / 'models', '../x', kanserve.compile(kan, ['numpy_source']))": "name",
    "kanserve.publish(folder / 'models', 'x', 'kan')": "kanserve.load reads one from a file",
    "kanserve.publish(folder / 'models', 'x', estimator)": "The network of an estimator is its kan_",
    "kanserve.Session(estimator, data)": "The network of an estimator is its kan_",
    "kanserve.publish(folder / 'models', 'x', kanserve.compile(kan, ['numpy_source']), version=-1)": "version",
    "kanserve.export(kan, folder / 'rows.csv', ['c_source'])": "rows.csv|there|folder",
    # Importers
    "kanserve.from_pykan(folder / 'rows.csv')": "pykan|rows.csv",
    "kanserve.from_pykan({'a': 1})": "'a' is an int",
    "kanserve.from_checkpoint(folder / 'none.pt')": "no file|none.pt",
    "kanserve.from_efficient_kan({})": "no arrays",
    # Estimators
    "kanserve.KANRegressor().predict(X)": "fitted|fit",
    "kanserve.KANRegressor(hidden=(2,)).fit(X, y[:5])": "rows|samples|inconsistent",
    "kanserve.KANRegressor(hidden=-1).fit(X, y)": "nodes .* got -1",
    "kanserve.KANRegressor(grid='x').fit(X, y)": "grid",
    "kanserve.KANClassifier().fit(X, np.zeros(60))": "class",
    "estimator.predict(X[:, :1])": "2 features|1 feature|features",
    "estimator.predict(X[0])": "2D|dimension|reshape|features",
    # Search
    "kanserve.discover(data, seconds=0)": "unexpected .* 'seconds'",
    "kanserve.find_formulas(data, functions=['sinus'])": "sinus",
    "kanserve.discover(None)": "Dataset|data",
    # Clients
    "kanserve.Client('nowhere').metadata('x')": "nowhere",
    "kanserve.Client('localhost:1', retries=0).metadata('x')": "localhost:1",
    "kanserve.Client('localhost:1', channels=0)": "channels",
    "kanserve.Client('example.org:1', token='t')": "tls|unencrypted",
    "kanserve.Client('localhost:1', tls='none.pem')": "none.pem",
}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the calls name."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    folder: Path = tmp_path_factory.mktemp("wrong")
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (60, 2))
    y = x[:, 0] + x[:, 1] ** 2
    frame = pandas.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": y})
    frame.to_csv(folder / "rows.csv", index=False)
    kan = kanserve.from_formula("a + b^2", ranges={"a": (-1, 1), "b": (-1, 1)})
    return {
        "kanserve": kanserve,
        "np": np,
        "folder": folder,
        "X": x,
        "y": y,
        "frame": frame,
        "data": kanserve.Dataset(x, y, inputs=("a", "b"), outputs=("y",)),
        "other": kanserve.Dataset(x[:, :1], y, inputs=("c",), outputs=("z",)),
        "kan": kan,
        "estimator": kanserve.KANRegressor(hidden=(), steps=5).fit(x, y),
    }


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_call_is_an_error_that_says_what_to_do(there: dict[str, Any], call: str) -> None:
    with pytest.raises((KanserveError, ValueError, TypeError)) as raised:
        eval(call, dict(there))
    text = str(raised.value)
    known = isinstance(raised.value, KanserveError) or call.startswith(("estimator", "kanserve.KAN"))
    assert known or re.search("missing|positional|no parameter|unexpected", text), text  # Python's own of arguments
    assert re.search(CALLS[call], text), text
    assert len(text) < 500 and ("\n" not in text or "from_formula" in call or call.startswith("estimator")), text
