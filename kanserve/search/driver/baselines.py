"""Baseline formulas: the mean, the best linear model, functions of one input, a power law of all inputs."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kanserve.search.driver.preprocess import Prepared
from kanserve.search.fit.training import FittedNetwork, SearchSamples, judged, refined, split
from kanserve.search.search_settings import SEARCH
from kanserve.search.structure.factors import powered
from kanserve.search.trees import compose
from kanserve.search.trees.to_network import network
from kanserve.search.trees.trees import Curve, Node, Sum
from kanserve.simplification.edge_candidates import Samples, candidates

Array = NDArray[np.float64]


def baselines(ready: Prepared, seed: int, library: Sequence[str]) -> list[FittedNetwork]:
    """Trees over all columns of the prepared rows, fitted to the training rows of the search; the mean first."""
    rows = split(ready.x, ready.y, seed)
    found = [judged(network(node, ready.x.shape[1]), rows) for node in _linear(rows, ready.columns)]
    for node in (*_of_one_input(rows, ready.columns, library), *_powers(rows, ready.columns)):
        found.append(judged(refined(network(node, ready.x.shape[1]), rows, SEARCH.get().baselines_refit_steps), rows))
    return found


def _linear(rows: SearchSamples, columns: Sequence[int]) -> Iterator[Node]:
    """The mean and the linear model."""
    yield compose.constant(float(rows.y.mean()), 0)
    if columns:
        design = np.column_stack([np.ones(len(rows.x)), rows.x[:, columns]])
        level, *slopes = np.linalg.lstsq(design, rows.y, rcond=1e-12)[0].tolist()
        yield compose.total([compose.linear(columns, slopes), compose.constant(level, columns[0])])


def _of_one_input(rows: SearchSamples, columns: Sequence[int], library: Sequence[str]) -> list[Node]:
    settings = SEARCH.get()
    chosen = np.linspace(0, len(rows.y) - 1, min(len(rows.y), settings.baselines_rows)).astype(int)
    y = rows.y[chosen]
    found = []
    for i in columns:
        order = np.argsort(rows.x[chosen, i], kind="stable")
        z = rows.x[chosen, i][order]
        weights = np.full(len(z), 1 / rows.spread**2)
        low, high = float(rows.x[:, i].min()), float(rows.x[:, i].max())
        for candidate in candidates(
            Samples(z, y[order], weights, low, high, 0.0), settings.baselines_error_floor, tuple(library)
        )[:1]:
            found.append((candidate.error, i, candidate.symbolic))
    best = sorted(found, key=lambda entry: entry[:2])[: settings.baselines_most_inputs]
    return [Sum((Curve(i, symbolic),)) for _, i, symbolic in best]


def _powers(rows: SearchSamples, columns: Sequence[int]) -> list[Node]:
    """c·Π x_i^p_i with integer and half-integer powers, for positive inputs and outputs of one sign."""
    x = rows.x[:, columns]
    y = np.sign(rows.y[0]) * rows.y
    if not columns or not (x > 0).all() or not (y > 0).all():
        return []
    design = np.column_stack([np.ones(len(x)), np.log(x)])
    powers = np.round(2 * np.linalg.lstsq(design, np.log(y), rcond=1e-12)[0][1:]) / 2
    product = np.prod([powered(x[:, k], p) for k, p in enumerate(powers.tolist())], axis=0)
    scale = float(product @ rows.y / (product @ product))
    return [compose.monomial(columns, powers.tolist(), scale)] if powers.any() and np.isfinite(scale) else []
