"""Greedy backward elimination: take out what carries least of the signal, refit, keep what the held-out rows allow.

Nodes first, then edges, the lowest shares of the signal first (`importance`). Large networks lose several at once:
a refused handful is halved until single ones are tried. Penalties on the size of edges were measured and lose to this
by far: they shrink functions that are needed before they remove those that are not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from kanserve.importance import importance
from kanserve.ir import Kan
from kanserve.reference import activations
from kanserve.simplification.judging import Array, Judge, Report, Step, free_parameters, judge, refit, smoothness
from kanserve.simplification.merging import merged
from kanserve.simplification.naming import domains_hold
from kanserve.simplification.shapes import Mask, no_edges, without_dead_nodes, without_edges
from kanserve.table import Dataset, dataset
from kanserve.train.grids import regrid

STEPS = 30
PATIENCE = 6
NEAR = 3.0
"""An error of this many tolerances may be the fault of the grid."""


@dataclass(frozen=True, eq=False)
class _Run:
    """What stays the same while a network is pruned."""

    judge: Judge
    smooth: float
    parameters: int
    """How many the network had: as edges go, the others may have finer grids with no more."""
    report: Report | None


@dataclass(frozen=True, eq=False)
class _State:
    kan: Kan
    losses: Array
    best: Array


def prune(
    kan: Kan,
    data: Dataset | tuple[ArrayLike, ArrayLike],
    *,
    tolerance: float | Literal["auto"] = "auto",
    seed: int = 0,
    report: Report | None = None,
) -> Kan:
    """The network without the nodes and edges that the data do not ask for, refitted on four fifths of the rows.

    A removal is kept when, after a refit, the mean squared error on the other fifth is above the best network's by no
    more than the square of `tolerance` (in units of the standard deviation of each output; "auto" is 1 %), or by no
    more than one standard error.
    A classifier is refitted to its own scores and judged by its cross-entropy; with more than 1500 parameters there
    is no refit and only the judgement. Inputs keep their places: one that is not needed has no edges left.
    """
    rows = dataset(data)
    one = judge(kan, rows, tolerance, seed)
    smooth = smoothness(kan, one)
    # Refitted too, so that it is compared as what it is without the held-out rows: its training may have seen them.
    start = refit(kan, one, STEPS, smooth)
    losses = one.losses(start)
    state = _State(start, losses, losses)
    run = _Run(one, smooth, free_parameters(kan), report)
    _tell(report, "before pruning", state)
    state = _greedy(run, state)
    for smaller in merged(state.kan, one, smooth, seed):
        if (after := _judged(run, state, smaller, "merged two nodes")) is not None:
            return _greedy(run, after).kan
    return state.kan


def _greedy(run: _Run, state: _State) -> _State:
    while True:
        edges_left = state.kan.edges
        for candidates in (_nodes, _edges):
            state = _eliminated(run, state, candidates)
        if state.kan.edges == edges_left:
            return state


def _eliminated(
    run: _Run, state: _State, candidates: Callable[[Kan, Array], list[tuple[str, tuple[Mask, ...]]]]
) -> _State:
    """Remove what may be removed among the candidates, from the lowest share on."""
    handful = max(1, len(candidates(state.kan, run.judge.learn.x)) // 4)
    while True:
        found = candidates(state.kan, run.judge.learn.x)
        smaller = None
        attempts = [found[:handful]] if handful > 1 else [[single] for single in found[:PATIENCE]]
        for attempt in attempts:
            if attempt and (smaller := _without(run, state, attempt)):
                break
        if smaller:
            state = smaller
        elif handful == 1:
            return state
        else:
            handful //= 2


def _without(run: _Run, state: _State, attempt: Sequence[tuple[str, tuple[Mask, ...]]]) -> _State | None:
    """The refitted network without these, or None when the held-out rows object."""
    gone = no_edges(state.kan)
    for _, masks in attempt:
        gone = tuple(mask | other for mask, other in zip(gone, masks, strict=True))
    smaller = without_dead_nodes(without_edges(state.kan, gone, run.judge.learn.x))
    if smaller.edges >= state.kan.edges:
        return None
    action = "removed " + ", ".join(name for name, _ in attempt)
    smaller = refit(smaller, run.judge, STEPS, run.smooth)
    return _judged(run, state, smaller, action) or _judged_finer(run, state, smaller, action)


def _judged_finer(run: _Run, state: _State, smaller: Kan, action: str) -> _State | None:
    """The state with the smaller network on twice as fine a grid, when that may be what it fell short by."""
    one = run.judge
    if smaller.symbolic or one.losses(smaller).mean() > (NEAR * one.tolerance) ** 2:
        return None
    finer = regrid(smaller, one.learn.x, 2 * max(layer.intervals for layer in smaller.layers))
    if free_parameters(finer) > run.parameters:
        return None
    return _judged(run, state, refit(finer, one, STEPS, run.smooth), action)


def _judged(run: _Run, state: _State, smaller: Kan, action: str) -> _State | None:
    """The state with the smaller network, or None when the held-out rows object or it leaves a domain."""
    one = run.judge
    losses = one.losses(smaller)
    if not (one.accepts(losses, state.best) and domains_hold(smaller, activations(smaller, one.learn.x))):
        return None
    after = _State(smaller, losses, losses if losses.mean() < state.best.mean() else state.best)
    _tell(run.report, action, after)
    return after


def _nodes(kan: Kan, x: Array) -> list[tuple[str, tuple[Mask, ...]]]:
    """Hidden nodes by share, lowest first, as the edges that leave them. One node of a layer must stay."""
    shares = importance(kan, x)
    found = []
    for depth in range(1, len(kan.layers)):
        for q in range(kan.layers[depth].inputs if kan.layers[depth].inputs > 1 else 0):
            masks = no_edges(kan)
            masks[depth][:, q] = kan.layers[depth].alive[:, q]
            found.append((float(shares.nodes[depth][q]), f"node {q + 1} of layer {depth}", masks))
    return [(name, masks) for _, name, masks in sorted(found, key=lambda each: each[0])]


def _edges(kan: Kan, x: Array) -> list[tuple[str, tuple[Mask, ...]]]:
    """Edges by share, lowest first."""
    shares = importance(kan, x)
    found = []
    for depth, layer in enumerate(kan.layers):
        for j, i in np.argwhere(layer.alive):
            masks = no_edges(kan)
            masks[depth][j, i] = True
            name = f"the edge from {_source(kan, depth, i)} to node {j + 1} of layer {depth + 1}"
            found.append((float(shares.edges[depth][j, i]), name, masks))
    return [(name, masks) for _, name, masks in sorted(found, key=lambda each: each[0])]


def _source(kan: Kan, depth: int, i: int) -> str:
    return kan.inputs[i].name if depth == 0 else f"node {i + 1} of layer {depth}"


def _tell(report: Report | None, action: str, state: _State) -> None:
    if report is not None:
        report(Step(action, state.kan.edges, float(state.losses.mean())))
