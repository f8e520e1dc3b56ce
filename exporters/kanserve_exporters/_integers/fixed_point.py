"""A network in integers: codes of 16 bits between the layers, cubic splines on even grids, sums of 32 bits.

A code u stands for low + u·step. u·G/65536 is an interval of an input's grid and a 16-bit place in it, from which
follow four 16-bit weights, the same for all edges; an edge is the sum of four coefficients times these weights. All
edges into one sum have one quantum, so the sum is an integer, and becomes the next code by an offset, one
multiplication and a shift. Splines on even grids are used as they are; anything else, such as the base function, is
fitted by splines on a grid that is refined until its error is small beside that of rounding.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import ExportError
from kanserve.network.kan import Kan
from kanserve.network.layer import Layer
from kanserve.network.splines import about, fit_coefficients, pieces, span, uniform_knots
from kanserve_exporters._integers.edges import Cells, cells_of

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Word = Literal["int8", "int16"]

CODES = 1 << 16
LARGEST_CODE = {"int8": 255, "int16": 65535}  # of a coefficient
HEADROOM = 1 << 30  # of sums, which have a sign and an offset
LEAST_RANGE = 256.0  # of the coefficients into a sum, in its codes: finer ones change no code
MOST_INTERVALS = 255  # of a grid: the tables name it in a byte
CELLS = 1024  # of a range, on each of which edges are bounded
MOST_CELLS = 2**21  # of all edges of a layer, some 70 bytes each: ranges of wide layers have fewer
FIRST_INTERVALS = 4  # of inputs without splines
# Splines are refined until their errors are at most this part of what rounding makes. On the zoo, 1 has 2 % fewer bytes
# and 23 % larger bounds, 0.25 has 1 % more bytes and 6 % smaller bounds.
ROUNDING_SHARE = 0.5
# Of the bound: grids whose splines make no more of it are not worth their bytes. Without it one network of the tests'
# zoo has 1.9 times the bytes for 13 % less of the bound, and the others are the same.
LEAST_SHARE = 0.02


@dataclass(frozen=True, eq=False)
class Scale:
    """What integer codes stand for: low + u·step, in the units of the network."""

    low: float
    step: float

    @property
    def high(self) -> float:
        return self.low + CODES * self.step


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """The integers of a layer as they appear in the source."""

    intervals: tuple[int, ...]  # of each input
    coefficients: tuple[Integers, ...]  # of each input, (G+3, O)
    sum_shift: int  # of each edge's sum of coefficients times weights
    offsets: Integers  # (O,)
    multipliers: Integers  # (O,), of 16 bits
    shifts: Integers  # (O,), after the multiplication, of which the lower 16 bits were dropped
    arity: tuple[int, ...]

    def __call__(self, codes: Integers) -> Integers:
        """The codes (N, nodes) for codes (N, inputs), as the C source computes them."""
        total = np.zeros((len(codes), len(self.offsets)), np.int64)
        for i, (intervals, coefficients) in enumerate(zip(self.intervals, self.coefficients, strict=True)):
            place = codes[:, i] * intervals
            interval, weights = place >> 16, weights_of(place & 0xFFFF)
            total += sum(coefficients[interval + r] * weights[r][:, None] for r in range(4)) >> self.sum_shift
        positive = np.maximum(total + self.offsets, 0)
        sums = np.minimum(((positive * self.multipliers) >> 16) >> self.shifts, CODES - 1)
        nodes = []
        for group in _groups(self.arity):
            product = sums[:, group[0]]
            for j in group[1:]:
                whole = (product - 32768) * (sums[:, j] - 32768) + (1 << 30) + (1 << 14)
                product = np.minimum(whole >> 15, CODES - 1)
            nodes.append(product)
        return np.stack(nodes, axis=1)


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """A network in integers, the meaning of its codes, and the proven bound of its errors."""

    word: Word
    layers: tuple[IntegerLayer, ...]
    inputs: tuple[Scale, ...]  # of the numbers that the network sees before it normalises them
    outputs: tuple[Scale, ...]  # in the units of the outputs
    bounds: Array  # (outputs,), of the absolute error within the training ranges, inputs rounded to codes included

    def __call__(self, codes: Integers) -> Integers:
        """The codes (N, outputs) for codes (N, inputs), bit for bit as in C."""
        for layer in self.layers:
            codes = layer(codes)
        return codes

    @property
    def table_bytes(self) -> int:
        """The size of all tables in bytes."""
        coefficients = sum(part.size for layer in self.layers for part in layer.coefficients)
        others = sum(len(layer.intervals) + 7 * len(layer.offsets) + len(layer.arity) for layer in self.layers)
        return others + coefficients * (1 if self.word == "int8" else 2)


def weights_of(place: Integers) -> tuple[Integers, Integers, Integers, Integers]:
    """The weights of four coefficients, which sum to 65536, at a 16-bit position in an interval."""
    square = (place * place) >> 16
    cube = (square * place) >> 16
    last = (cube * 10923) >> 16  # a sixth, without a division
    first = 10923 - ((3 * (place - square) + cube) * 10923 >> 16)
    third = ((65536 + 3 * (place + square) - 3 * cube) * 10923) >> 16
    return first, 65536 - first - third - last, third, last


def weight_error() -> float:
    """The largest sum of the absolute errors of the four weights, over all positions."""
    place = np.arange(CODES)
    t = place / CODES
    exact = ((1 - t) ** 3 / 6, 2 / 3 - t**2 + t**3 / 2, (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6, t**3 / 6)
    errors = [np.abs(found / CODES - true) for found, true in zip(weights_of(place), exact, strict=True)]
    return float(np.sum(errors, axis=0).max())


def fixed_point(kan: Kan, word: Word, tolerance: Array | None = None) -> FixedPoint:
    """The network in integers.

    `tolerance` (outputs,) is the absolute error up to which grids are refined; without it they are refined until
    rounding makes most of the error.

    Raises
    ------
    ExportError
        An input has no training range, a layer is too wide, or an edge has no bound in the range of its input.
    """
    plan = _Plan.of(kan, word)
    wanted = plan.total(0.0) * (1 + ROUNDING_SHARE) if tolerance is None else tolerance
    while (plan.total() > wanted).any():
        finer = plan.refined()
        if finer is None:
            break
        plan = finer
    return plan.made()


@dataclass(frozen=True, eq=False)
class _Input:
    """An input of a layer: the range of its codes, its grid, and the fitted splines with their errors."""

    scale: Scale
    intervals: int
    cells: Cells
    fitted: Array  # (G+3, O)
    errors: Array  # (O,)
    finest: int  # intervals that a grid may have, each of whole cells

    @classmethod
    def of(cls, layer: Layer, i: int, scale: Scale, intervals: int) -> "_Input":
        wanted = min(CELLS, MOST_CELLS // (layer.inputs * layer.subnodes))
        parts = 1 << (wanted // intervals).bit_length()  # so that the cells serve doubled grids as well
        ends = np.linspace(scale.low, scale.high, intervals * parts + 1)
        cells = cells_of(layer, i, _factors(layer), ends)
        return cls.on_grid(scale, intervals, cells, min(intervals * parts, MOST_INTERVALS))

    @classmethod
    def on_grid(cls, scale: Scale, intervals: int, cells: Cells, finest: int) -> "_Input":
        knots = uniform_knots(scale.low, scale.high, intervals, 3)
        fitted = fit_coefficients(cells.centres, cells.values, knots, 3)
        local = pieces(knots[None], fitted.T[:, None], 3, "linear")
        places = np.clip(np.searchsorted(local.breaks[0], cells.centres, side="right"), 1, intervals)
        moved = about(local.coefficients[:, :, places], (cells.centres - local.origins[0, places])[None])[:, 0]
        return cls(scale, intervals, cells, fitted, cells.error(moved), finest)

    def doubled(self) -> "_Input":
        """The input on a grid with twice the intervals."""
        return self.on_grid(self.scale, 2 * self.intervals, self.cells, self.finest)


@dataclass(frozen=True, eq=False)
class _Plan:
    """The grids of all inputs of all layers; everything derived from them is computed on demand."""

    kan: Kan
    word: Word
    inputs: tuple[tuple[_Input, ...], ...]
    ranges: tuple[tuple[Scale, ...], ...]  # of the subnodes of each layer
    weights: float  # the error of the weights

    @classmethod
    def of(cls, kan: Kan, word: Word) -> "_Plan":
        scales = tuple(_input_scale(kan, i) for i in range(kan.shape[0]))
        inputs, ranges = [], []
        for number, layer in enumerate(kan.layers):
            if layer.inputs * LARGEST_CODE[word] * 4 > HEADROOM:
                raise ExportError(
                    f"Layer {number + 1} has {layer.inputs} inputs; sums of 32 bits have room for "
                    f"{HEADROOM // LARGEST_CODE[word] // 4} in {word}."
                )
            now = []
            for i, scale in enumerate(scales):
                widened, intervals = _grid(layer, i, scale)
                # Sums have been widened to the grid that follows; products cannot be.
                now.append(_Input.of(layer, i, scale if number else widened, intervals))
            last = number == len(kan.layers) - 1
            sums = _sum_ranges(layer, tuple(now), None if last else kan.layers[number + 1])
            if last:
                sums = _same_for_classes(kan, sums)
            inputs.append(tuple(now))
            ranges.append(sums)
            scales = tuple(_node_scale(layer, q, sums) for q in range(layer.nodes))
        return cls(kan, word, tuple(inputs), tuple(ranges), weight_error())

    def integers(self, number: int) -> tuple[IntegerLayer, Array]:
        """A layer in integers, and the total rounding error (O,) of its sums."""
        return _integers(self.kan.layers[number], self.inputs[number], self.ranges[number], self.word, self.weights)

    def total(self, share: float = 1.0) -> Array:
        """The error bound of each output in its units; errors of fitted splines count with weight `share`."""
        *_, (outputs, _) = self.steps(share)
        return np.asarray(np.abs(self.kan.output_scale) * outputs)

    def steps(self, share: float = 1.0) -> Iterator[tuple[Array, Array]]:
        """For each layer, the error bounds of its nodes, and how much each input's error counts in each sum (I, O)."""
        errors = np.array([one.scale.step for one in self.inputs[0]])  # the highest code is one step below the range
        for number, layer in enumerate(self.kan.layers):
            _, rounding = self.integers(number)
            passed = np.stack([one.cells.change(error) for one, error in zip(self.inputs[number], errors, strict=True)])
            fitted = np.stack([one.errors for one in self.inputs[number]])
            of_sums = passed.sum(axis=0) + share * fitted.sum(axis=0) + rounding
            with np.errstate(invalid="ignore", divide="ignore"):
                gains = np.where(errors[:, None] > 0, passed / errors[:, None], 0.0)
            errors = _through_products(layer, self.ranges[number], of_sums)
            yield errors * (1 + 1e-9), gains

    def refined(self) -> "_Plan | None":
        """Refine the grids of the inputs whose splines add most to the error; None if none can be refined."""
        gains = [gain for _, gain in self.steps()]
        total = float(self.total().sum())
        counts = np.abs(self.kan.output_scale)  # how much an error of each node counts, in all outputs
        shares: dict[tuple[int, int], float] = {}
        for number in reversed(range(len(self.kan.layers))):
            layer = self.kan.layers[number]
            of_sums = _back_through_products(layer, self.ranges[number], counts)
            for i, one in enumerate(self.inputs[number]):
                if 2 * one.intervals <= one.finest:
                    shares[number, i] = float(one.errors @ of_sums)
            counts = gains[number] @ of_sums
        largest = max(shares.values(), default=0.0)
        chosen = [place for place, error in shares.items() if error >= largest / 2]
        if sum(shares[place] for place in chosen) <= LEAST_SHARE * total:
            return None
        inputs = [list(now) for now in self.inputs]
        for number, i in chosen:
            inputs[number][i] = inputs[number][i].doubled()
        return replace(self, inputs=tuple(map(tuple, inputs)))

    def made(self) -> FixedPoint:
        kan = self.kan
        last = kan.layers[-1]
        nodes = [_node_scale(last, q, self.ranges[-1]) for q in range(last.nodes)]
        outputs = tuple(
            Scale(float(shift + scale * node.low), float(scale * node.step))
            for node, scale, shift in zip(nodes, kan.output_scale, kan.output_shift, strict=True)
        )
        inputs = tuple(
            Scale(float(shift + scale * one.scale.low), float(scale * one.scale.step))
            for one, scale, shift in zip(self.inputs[0], kan.input_scale, kan.input_shift, strict=True)
        )
        layers = tuple(self.integers(number)[0] for number in range(len(kan.layers)))
        return FixedPoint(self.word, layers, inputs, outputs, self.total())


def _groups(arity: tuple[int, ...]) -> list[range]:
    stops = np.cumsum(arity)
    return [range(int(stop - size), int(stop)) for stop, size in zip(stops, arity, strict=True)]


def _factors(layer: Layer) -> Array:
    """The factors of the sums into each subnode: its scale, times the node's scale for a node's first subnode."""
    factors = layer.subnode_scale.copy()
    factors[np.cumsum(layer.arity) - layer.arity] *= layer.node_scale
    return factors


def _constants(layer: Layer) -> Array:
    """The constants added to the sums of each subnode, including a node's own bias unless it is a product."""
    constants = layer.subnode_bias.copy()
    firsts = np.cumsum(layer.arity) - layer.arity
    constants[firsts] *= layer.node_scale
    alone = layer.arity == 1
    constants[firsts[alone]] += layer.node_bias[alone]
    return constants


def training_range(kan: Kan, i: int) -> tuple[float, float]:
    """The training range of an input that is a number; where it is unknown, that of its splines' grid.

    Raises
    ------
    ExportError
        Neither is known.
    """
    variable, layer = kan.inputs[i], kan.layers[0]
    if math.isfinite(variable.low) and math.isfinite(variable.high):
        return variable.low, variable.high
    if not layer.spline_mask[:, i].any():
        raise ExportError(
            f"The input {variable.name} has no training range, and codes of 16 bits need one. Give "
            f'from_formula(..., ranges={{"{variable.name}": (low, high)}}), or set low and high of its Variable.'
        )
    ends = np.array(span(layer.knots[i], layer.order)) * kan.input_scale[i] + kan.input_shift[i]
    return float(ends.min()), float(ends.max())


def _input_scale(kan: Kan, i: int) -> Scale:
    """The range of the normalised, encoded values of an input."""
    variable = kan.inputs[i]
    seen = variable.category_values if variable.categories else training_range(kan, i)
    seen = seen if variable.fill_value is None else (*seen, variable.fill_value)
    ends = (np.array(seen) - kan.input_shift[i]) / kan.input_scale[i]
    return _scale(float(ends.min()), float(ends.max()))


def _scale(low: float, high: float) -> Scale:
    if not high > low:  # a constant
        high = low + max(abs(low), 1.0) * 1e-6
    return Scale(low, (high - low) / CODES)


def _grid(layer: Layer, i: int, scale: Scale) -> tuple[Scale, int]:
    """The range of codes, widened to whole intervals of the input's grid if it is even, and the number of intervals."""
    if not layer.spline_mask[:, i].any():
        return scale, FIRST_INTERVALS
    knots = layer.knots[i, layer.order : len(layer.knots[i]) - layer.order]
    width = (knots[-1] - knots[0]) / (len(knots) - 1)
    first = math.floor((scale.low - knots[0]) / width + 1e-9)
    stop = math.ceil((scale.high - knots[0]) / width - 1e-9)
    even = width > 0 and np.allclose(np.diff(knots), width, rtol=1e-9, atol=0)
    if not even or layer.order != 3 or stop - first > MOST_INTERVALS:
        return scale, int(np.clip(stop - first if width > 0 else FIRST_INTERVALS, FIRST_INTERVALS, MOST_INTERVALS // 2))
    if stop - first > 2 * (scale.high - scale.low) / width + 1:  # a small part of one interval
        return scale, FIRST_INTERVALS
    return _scale(float(knots[0] + first * width), float(knots[0] + stop * width)), stop - first


def _sum_ranges(layer: Layer, inputs: tuple[_Input, ...], following: Layer | None) -> tuple[Scale, ...]:
    """The range of each subnode within the ranges of the inputs; symmetric around 0 for factors of products."""
    low = _constants(layer) + sum(one.cells.low.min(axis=0) for one in inputs)
    high = _constants(layer) + sum(one.cells.high.max(axis=0) for one in inputs)
    scales: list[Scale] = []
    for q, group in enumerate(layer.groups):
        for j in group:
            if len(group) > 1:
                most = float(max(abs(low[j]), abs(high[j]), 1e-300))
                scales.append(Scale(-most, 2 * most / CODES))
            else:
                plain = _scale(float(low[j]), float(high[j]))
                scales.append(plain if following is None else _grid(following, q, plain)[0])
    return tuple(scales)


def _same_for_classes(kan: Kan, sums: tuple[Scale, ...]) -> tuple[Scale, ...]:
    """One scale for the scores of all classes, so that the largest code is the predicted class."""
    if not kan.classes or kan.layers[-1].subnodes != kan.layers[-1].nodes:
        return sums
    if (kan.output_scale != kan.output_scale[0]).any() or (kan.output_shift != kan.output_shift[0]).any():
        return sums
    return (_scale(min(one.low for one in sums), max(one.high for one in sums)),) * len(sums)


def _node_scale(layer: Layer, q: int, sums: tuple[Scale, ...]) -> Scale:
    group = layer.groups[q]
    if len(group) == 1:
        return sums[group[0]]
    most = math.prod(-sums[j].low for j in group)
    return Scale(float(layer.node_bias[q] - most), 2 * most / CODES)


def _through_products(layer: Layer, sums: tuple[Scale, ...], errors: Array) -> Array:
    """The errors of nodes (Q,) from those of subnodes (O,), including the rounding of products."""
    nodes = []
    for group in layer.groups:
        most, error = -sums[group[0]].low, float(errors[group[0]])
        for j in group[1:]:
            other, wrong = -sums[j].low, float(errors[j])
            error = most * wrong + other * error + error * wrong + most * other / 32768
            most *= other
        nodes.append(error)
    return np.array(nodes)


def _back_through_products(layer: Layer, sums: tuple[Scale, ...], counts: Array) -> Array:
    """How much an error of each subnode counts, from how much an error of each node does."""
    of_sums = np.zeros(layer.subnodes)
    for q, group in enumerate(layer.groups):
        for j in group:
            of_sums[j] = counts[q] * math.prod(-sums[other].low for other in group if other != j)
    return of_sums


def _integers(
    layer: Layer, inputs: tuple[_Input, ...], scales: tuple[Scale, ...], word: Word, weights: float
) -> tuple[IntegerLayer, Array]:
    """A layer in integers, and the total rounding error (O,) of each sum in real units. All coefficients of one sum are
    integer multiples of the same quantum, the smallest for which they fit the word."""
    largest = LARGEST_CODE[word]
    steps, lows = np.array([one.step for one in scales]), np.array([one.low for one in scales])
    least = np.stack([one.fitted.min(axis=0) for one in inputs])  # (I, O)
    widest = np.stack([one.fitted.max(axis=0) for one in inputs]) - least
    alive = widest > 0
    bits = min(16, int(math.log2(HEADROOM / (len(inputs) * largest))))
    while True:
        ratio = np.maximum(widest.max(axis=0) / steps, LEAST_RANGE) / largest
        powers = np.clip(np.floor(np.log2(65535 / ratio)).astype(np.int64) + bits, 16, 47)
        multipliers = np.ceil(ratio * 2.0 ** (powers - bits)).astype(np.int64)
        quanta = steps * multipliers * 2.0 ** (bits - powers)
        constant = _constants(layer) + least.sum(axis=0) - lows
        halves = alive.sum(axis=0) / 2 * (bits != 16)  # what dropped bits of edges take away on average
        offsets = np.rint((constant + steps / 2) * 2.0**bits / quanta + halves).astype(np.int64)
        if (np.abs(offsets) < HEADROOM).all() and (multipliers < CODES).all():
            break
        bits -= 1
        if bits < 0:
            raise AssertionError("The offsets of sums must fit into 31 bits.")
    coefficients = tuple(
        np.minimum(np.rint((one.fitted - low) / quanta).astype(np.int64), largest)
        for one, low in zip(inputs, least, strict=True)
    )
    dropped = quanta * 2.0**-bits
    rounding = steps + dropped * (1 + alive.sum(axis=0) / 2 * (bits != 16)) + 0.5 * quanta * alive.sum(axis=0)
    for part in coefficients:
        windows = np.lib.stride_tricks.sliding_window_view(part, 4, axis=0)
        spread = (windows.max(axis=-1) - windows.min(axis=-1)).max(axis=0)
        rounding = rounding + quanta * spread * weights / 2
    made = IntegerLayer(
        tuple(one.intervals for one in inputs),
        coefficients,
        16 - bits,
        offsets,
        multipliers,
        powers - 16,
        tuple(map(int, layer.arity)),
    )
    return made, rounding
