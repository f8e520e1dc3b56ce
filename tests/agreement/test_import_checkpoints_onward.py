"""Networks that were imported from stored checkpoints go through all that comes after training here."""

import numpy as np
import pytest

from kanserve import equal, load, plot_edge, plot_network, prune, publish, save, symbolify
from kanserve.artifact_compiler import compile
from kanserve.client import Client
from kanserve.data.dataset import Dataset
from kanserve.formula import formulas
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import sample
from kanserve.serve.settings import Settings
from kanserve.train.lm.levenberg_marquardt import refine
from tests.support.formula_agreement import check
from tests.support.peers.imported_checkpoints import ALL, conversion
from tests.support.servers import server_process

# Uneven knots, products, an edge that is a spline and a function; of each library one.
SIMPLIFIED = (
    "pykan/trained_double",
    "pykan/affine_trained",
    "pykan/spline_and_function_double",
    "efficient_kan/grid_updated",
    "inkan/trained",
)
SERVED = {
    "pykan/products_of_two_and_three": "c_source",
    "pykan/named_by_itself": "numpy_source",
    "fast_kan/trained": "onnx_graph",
    "jaxkan/splines_updated_double": "c_source",
}


def data(name: str) -> Dataset:
    """Rows of the network's range, and what it says of them."""
    kan = conversion(name).kan
    x = sample(kan, 120, seed=0)
    return Dataset(x, evaluate(kan, x))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", SIMPLIFIED)
def test_an_imported_network_is_pruned_and_named_and_its_formula_is_what_became_of_it(name):
    rows = data(name)
    pruned = prune(conversion(name).kan, rows, tolerance=0.1)
    assert pruned.edges <= conversion(name).kan.edges
    named = symbolify(pruned, rows, tolerance=0.1)
    for kan in (pruned, named):
        check(kan, formulas(kan, strict=False))
    error = np.sqrt(np.mean((evaluate(named, rows.x) - rows.y) ** 2, axis=0)) / rows.y.std(axis=0)
    assert (error < 0.3).all(), error


@pytest.mark.parametrize("name", SIMPLIFIED)
def test_a_law_that_was_imported_is_fitted_further_here(name):
    kan, rows = conversion(name).kan, data(name)
    wanted = Dataset(rows.x, rows.y + 0.2 * np.sin(3 * rows.x[:, :1]))
    before = np.mean((rows.y - wanted.y) ** 2)
    refitted = refine(kan, wanted.x, wanted.y, steps=30)
    assert np.mean((evaluate(refitted, wanted.x) - wanted.y) ** 2) < 0.1 * before
    assert [layer.extrapolation for layer in refitted.layers] == [layer.extrapolation for layer in kan.layers]
    check(refitted, formulas(refitted, strict=False))


def size_of_picture(axes, path):
    axes.figure.savefig(path, dpi=40)
    return path.stat().st_size


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", SERVED)
def test_an_imported_network_is_drawn_and_kept(name, tmp_path):
    kan = conversion(name).kan
    j, i = np.argwhere(kan.layers[0].alive)[0].tolist()
    assert size_of_picture(plot_network(kan), tmp_path / "network.png") > 1000
    assert size_of_picture(plot_edge(kan, 0, j, i), tmp_path / "edge.png") > 1000
    save(kan, tmp_path / "kan.safetensors")
    assert equal(load(tmp_path / "kan.safetensors"), kan)


@pytest.mark.slow
@pytest.mark.extended
def test_imported_networks_are_served_with_their_formulas(tmp_path):
    names = {name: name.replace("/", "-").replace("_", "-") for name in SERVED}
    for name, kind in SERVED.items():
        publish(tmp_path, names[name], compile(conversion(name).kan, (kind,), name=name.replace("/", "_")))
    with server_process.served(Settings(str(tmp_path), port=0)) as (_, address), Client(address) as client:
        for name in SERVED:
            kan, x = conversion(name).kan, ALL[name].x.astype(np.float64)
            want = evaluate(kan, x)
            np.testing.assert_allclose(client.predict(names[name], x), want, rtol=1e-9, atol=1e-12)
            written = [served.text for served in client.formula(names[name])]
            assert written == [formula.text for formula in formulas(kan, strict=False)]
