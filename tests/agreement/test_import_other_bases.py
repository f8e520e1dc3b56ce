"""Networks that were imported from polynomials, Fourier series and quotients run the same in every backend."""

import numpy as np
import pytest
import torch

import kanserve
from kanserve.importers.polynomial_splines import LARGEST_DEGREE
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from tests.support.networks import basis_networks
from tests.support.networks.basis_networks import FourierLayer, PolynomialLayer, RationalNetwork


def polynomials(degree: int) -> Kan:
    layers = (PolynomialLayer(i, o, degree, basis_networks.chebyshev, "cheby_coeffs") for i, o in ((3, 4), (4, 2)))
    return kanserve.from_polynomial_kan(torch.nn.Sequential(*layers))


NETWORKS = {
    "quadratic": lambda: polynomials(2),
    "one interval": lambda: polynomials(4),
    "the largest degree": lambda: polynomials(LARGEST_DEGREE),
    "fourier": lambda: kanserve.from_fourier_kan(torch.nn.Sequential(FourierLayer(3, 4, 3), FourierLayer(4, 2, 2))),
    "rational": lambda: kanserve.from_rational_kan(RationalNetwork((2, 3, 2), (1, 3))),
}


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", NETWORKS)
def test_every_backend_gives_what_the_reference_gives(name: str, tmp_path) -> None:
    torch.manual_seed(0)
    kan = NETWORKS[name]()
    kanserve.publish(tmp_path, "m", kanserve.compile(kan))
    x = np.random.default_rng(0).normal(0, 1, (100, len(kan.inputs)))
    want = evaluate(kan, x)
    for backend in ("c_source", "numpy_source", "onnx_graph"):
        got = kanserve.load_model(tmp_path / "m" / "1", backend=backend).predict(x)
        assert np.abs(got - want).max() < (1e-5 if backend == "onnx_graph" else 2e-12) * np.abs(want).max(), backend
