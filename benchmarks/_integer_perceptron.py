"""A perceptron in integers, for `edge.py`: weights of 8 bits, activations of 16, sums of 32, shifted after each layer.

It is what a network for a small processor usually is. Scales are powers of two, so that nothing is divided.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
HIDDEN = (32, 32)
WEIGHT, ACTIVATION = 127, 32767  # the largest
INPUT_BITS = 15  # -1 to 1 is -32767 to 32767


@dataclass(frozen=True)
class IntegerLayer:
    """Weights (outputs, inputs), biases (outputs,) in units of the sums, and by how many bits these are shifted."""

    weights: NDArray[np.int64]
    biases: NDArray[np.int64]
    shift: int


@dataclass(frozen=True)
class IntegerPerceptron:
    """Layers with max(x, 0) between them; an output of 1 is 2^output_bits."""

    layers: tuple[IntegerLayer, ...]
    output_bits: int

    def __call__(self, x: Array) -> Array:
        """The outputs (N,) at inputs (N, I) between -1 and 1, as C computes them."""
        values = np.rint(ACTIVATION * x).astype(np.int64)
        for n, layer in enumerate(self.layers):
            values = (values @ layer.weights.T + layer.biases) >> layer.shift
            values = np.clip(values, 0 if n + 1 < len(self.layers) else -ACTIVATION, ACTIVATION)
        result: Array = values[:, 0] / 2.0**self.output_bits
        return result

    def source(self) -> str:
        """C that computes a row: int16_t predict(const int16_t *x)."""
        lines = ["#include <stdint.h>"]
        widest = max(layer.weights.shape[0] for layer in self.layers)
        body = [f"    int16_t a[{widest}], b[{widest}];"]
        source = "x"
        for n, layer in enumerate(self.layers):
            rows, columns = layer.weights.shape
            lines.append(f"static const int8_t w{n}[{rows}][{columns}] = {_braces(layer.weights)};")
            lines.append(f"static const int32_t b{n}[{rows}] = {_braces(layer.biases)};")
            last, target = n + 1 == len(self.layers), "ab"[n % 2]
            low = -ACTIVATION if last else 0
            body += [
                f"    for (int j = 0; j < {rows}; j++) {{",
                f"        int32_t s = b{n}[j];",
                f"        for (int i = 0; i < {columns}; i++) s += (int32_t)w{n}[j][i]*{source}[i];",
                f"        s >>= {layer.shift};",
                f"        {target}[j] = (int16_t)(s < {low} ? {low} : s > {ACTIVATION} ? {ACTIVATION} : s);",
                "    }",
            ]
            source = target
        return "\n".join([*lines, "int16_t predict(const int16_t *x)", "{", *body, f"    return {source}[0];", "}", ""])


def integer_perceptron(x: Array, y: Array) -> IntegerPerceptron:
    """Fit a perceptron by scikit-learn to rows x (N, I) between -1 and 1 and y (N,), and round it."""
    from sklearn.neural_network import MLPRegressor

    fitted = MLPRegressor(hidden_layer_sizes=HIDDEN, solver="lbfgs", alpha=1e-4, max_iter=5000, random_state=0).fit(
        x, y
    )
    return _in_integers([weights.T for weights in fitted.coefs_], fitted.intercepts_, x)


def _in_integers(weights: Sequence[Array], biases: Sequence[Array], x: Array) -> IntegerPerceptron:
    layers, values, bits = [], x, INPUT_BITS
    for n, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        values = values @ weight.T + bias
        of_weights = int(np.floor(np.log2(WEIGHT / np.abs(weight).max())))
        of_values = int(np.floor(np.log2(ACTIVATION / np.abs(values).max()))) - 1  # rows that are not here are larger
        units = 2.0 ** (of_weights + bits)
        layer = IntegerLayer(_rounded(weight * 2.0**of_weights), _rounded(bias * units), of_weights + bits - of_values)
        most = np.abs(layer.weights).sum(axis=1).max() * ACTIVATION + np.abs(layer.biases).max()
        if most >= 2**31 or layer.shift < 0:
            raise ValueError("The sums of a layer do not fit in 32 bits.")
        layers.append(layer)
        bits, values = of_values, np.maximum(values, 0) if n + 1 < len(weights) else values
    return IntegerPerceptron(tuple(layers), bits)


def _rounded(values: Array) -> NDArray[np.int64]:
    return np.rint(values).astype(np.int64)


def _braces(values: NDArray[np.int64]) -> str:
    if values.ndim == 1:
        return "{" + ", ".join(map(str, values.tolist())) + "}"
    return "{" + ", ".join(map(_braces, values)) + "}"
