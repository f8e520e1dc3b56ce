"""A descent by the compiled kernels (native/lm/least_squares.c): `levenberg_marquardt.Point`, many times faster.
Everything a step needs is prepared once per fit, so an iteration is two calls."""

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from kanserve import native
from kanserve.network.encoding import encode
from kanserve.network.kan import Kan
from kanserve.train.lm.blas_threads import threads_worth
from kanserve.train.lm.damped_solve import by_residuals
from kanserve.train.lm.parameter_layout import (
    SPLINES,
    LayerLayout,
    ParameterBlock,
    group_records,
    groups,
    layer_record,
    layouts_of,
    parts,
    weights,
)
from kanserve.train.lm.parameter_vector import Free, Penalty

Array = NDArray[np.float64]
Kept = list[NDArray[np.generic]]

MOST_ROWS = 1024  # of a block whose windows are in memory at once; fewer if the windows are longer
WINDOW_MEMORY = 4_000_000  # numbers of all windows of a block
LEAST_ROWS = 64  # of a block, however long its windows are
MEMORY = 30_000_000  # numbers: up to here the first layer's basis values are kept


_INT, _ADDRESS, _DOUBLE = ctypes.c_int64, ctypes.c_void_p, ctypes.c_double


class _Problem(ctypes.Structure):
    """The C structure `kanserve_problem` of native/lm/least_squares.h."""

    _fields_ = (
        *((name, _INT) for name in ("rows", "layers", "outputs", "size", "groups", "threads", "block")),
        *((name, _ADDRESS) for name in ("layer", "group", "part", "places", "weights", "inputs", "wanted", "scale")),
        *((name, _ADDRESS) for name in ("weight", "first", "basis", "base", "work", "ridge", "center")),
        ("proximal", _DOUBLE),
        ("bends", _INT),
        ("bend", _ADDRESS),
        ("dual", _INT),
        ("predicted", _ADDRESS),
    )


class Compiled:
    """A compiled `levenberg_marquardt.Descent` over a network's free parameters, starting from their present values."""

    def __init__(
        self,
        kan: Kan,
        free: tuple[Free, ...],
        penalty: Penalty,
        x: Array,
        y: Array,
        row_weights: Array | None = None,
        threads: int | None = None,
        predicted: Array | None = None,
    ) -> None:
        """Features x (N, inputs), targets y (N, outputs), weights (N,); by default `threads_worth` threads. `predicted`
        (N, outputs) receives the scores of each pass."""
        self._kernels = _kernels(native.library())
        every = layouts_of(kan)
        order = parts(free, every)
        self._public = np.concatenate([block.public for block in order])
        self._keep: Kept = []  # keeps arrays alive of which the kernels have only addresses
        self._problem, self.wanted, self.roots = _problem(
            kan, every, order, self._public, penalty, (x, y, row_weights), threads, self._keep
        )
        if predicted is not None:
            self._problem.predicted = predicted.ctypes.data
            self._keep.append(predicted)
        self._one = ctypes.byref(self._problem)
        if self._problem.basis:
            self._kernels.kanserve_squares_prepare(self._one)
        self._place_work(penalty.center[self._public])
        self.error = self._kernels.kanserve_squares_loss(self._one, self._vectors[0])
        self.value = self.error + self._kernels.kanserve_squares_penalty(self._one, self._vectors[0])

    def _place_work(self, start: Array) -> None:
        size = len(start)
        matrix = np.empty(self._matrix_shape())
        diagonal = np.empty(size)
        work = np.empty(self._kernels.kanserve_squares_step_work(self._one))
        self._results = np.empty(3)
        self._at, self._trial = start, np.empty(size)
        self._keep += [matrix, diagonal, work]
        self._vectors = [_address(self._at), _address(self._trial)]
        self._matrix, self._diagonal, self._work = (_address(array) for array in (matrix, diagonal, work))
        self._results_at = _address(self._results)

    def _matrix_shape(self) -> tuple[int, int]:
        height = self._kernels.kanserve_squares_height(self._one)
        return height + 1, self._kernels.kanserve_squares_leading(self._problem.size)

    @property
    def vector(self) -> Array:
        result = np.empty(len(self._public))
        result[self._public] = self._at
        return result

    def normal_equations(self) -> tuple[Array, Array]:
        """J'J (P, P) and J'r (P,) without the penalty, at `vector`."""
        size = len(self._public)
        matrix = np.empty(self._matrix_shape())
        self._kernels.kanserve_squares_normal(self._one, self._vectors[0], _address(matrix))
        if self._problem.dual:
            rows = matrix[:-1, : size + 1]
            matrix = rows.T @ rows
        lower = np.tril(matrix[:, :size])
        inverse = np.argsort(self._public)
        whole = lower[:size, :size] + np.tril(lower[:size, :size], -1).T
        return whole[np.ix_(inverse, inverse)], lower[size, :size][inverse]

    def linearise(self, floor: float) -> bool:
        failed = self._kernels.kanserve_squares_linearise(
            self._one, self._vectors[0], floor, self._matrix, self._diagonal
        )
        return not failed

    def attempt(self, damping: float) -> tuple[float, float]:
        self._kernels.kanserve_squares_step(
            self._one,
            self._vectors[0],
            self._matrix,
            self._diagonal,
            damping,
            self._vectors[1],
            self._results_at,
            self._work,
        )
        error, penalty, predicted = self._results.tolist()
        return error + penalty, predicted

    def accept(self) -> None:
        self._at, self._trial = self._trial, self._at
        self._vectors.reverse()
        self.error = float(self._results[0])
        self.value = self.error + float(self._results[1])


def _problem(
    kan: Kan,
    every: tuple[LayerLayout, ...],
    order: list[ParameterBlock],
    public: NDArray[np.int64],
    penalty: Penalty,
    data: tuple[Array, Array, Array | None],
    threads: int | None,
    keep: Kept,
) -> tuple[_Problem, Array, Array]:
    """The C structure, the targets, and the roots of the weights (N, outputs). It points to arrays in `keep`."""
    x, y, row_weights = data
    joined = groups(order, len(kan.outputs))
    group, part = group_records(joined, kan)
    share = np.full(len(x), 1 / len(x)) if row_weights is None else row_weights / row_weights.sum()
    scale = np.where(kan.output_scale == 0, 1.0, np.abs(kan.output_scale))
    sign = np.sign(kan.output_scale)
    with np.errstate(all="ignore"):
        inputs = (encode(kan, x) - kan.input_shift) / kan.input_scale
        wanted = np.ascontiguousarray((y - kan.output_shift) / scale * sign)
    roots = np.repeat(np.sqrt(share)[:, None], y.shape[1], axis=1)
    lengths = [record[4] for record in group]
    problem = _Problem(
        rows=len(x),
        layers=len(every),
        outputs=len(kan.outputs),
        size=len(public),
        groups=len(group),
        threads=threads or threads_worth(0.5 * len(x) * len(kan.outputs) * float(sum(lengths)) ** 2),
        block=max(
            LEAST_ROWS,
            min(MOST_ROWS, len(x), WINDOW_MEMORY // sum(lengths)),
        ),
        proximal=penalty.proximal,
        dual=by_residuals(wanted.size, len(public)),
    )

    def address(values: object, dtype: type[np.generic]) -> int:
        array = np.ascontiguousarray(values, dtype)
        keep.append(array)
        return array.ctypes.data

    numbers = weights(every)
    problem.weights = address(numbers, np.float64)
    problem.layer = address([layer_record(layout, numbers, keep) for layout in every], np.int64)
    problem.group, problem.part = address(group, np.int64), address(part, np.int64)
    problem.places = address(np.concatenate([block.places for block in order]), np.int64)
    problem.inputs, problem.wanted = address(inputs, np.float64), address(wanted, np.float64)
    problem.scale, problem.weight = address(np.abs(sign), np.float64), address(roots, np.float64)
    problem.ridge = address(penalty.ridge[public], np.float64)
    problem.center = address(penalty.center[public], np.float64)
    bends = _bends(order, penalty, keep)
    problem.bends, problem.bend = len(bends), address(bends, np.int64)
    first = every[0].tables
    if first is not None:
        functions = first.polynomials.shape[3]
        if inputs.size * (functions + 2) <= MEMORY:
            problem.first = address(np.empty(inputs.size, np.int32), np.int32)
            problem.base = address(np.empty(inputs.size), np.float64)
            problem.basis = address(np.empty(inputs.size * functions), np.float64)
    keep += [block.subnodes for group in joined for block in group]
    problem.work = address(
        np.zeros(_kernels(native.library()).kanserve_squares_work(ctypes.byref(problem))), np.float64
    )
    return problem, wanted, roots


def _bends(order: list[ParameterBlock], penalty: Penalty, keep: Kept) -> list[list[int]]:
    """The C records `kanserve_bend` of native/lm/least_squares.h: one smoothness matrix for all splines of an input."""
    matrices = {(bend.layer, bend.i): np.ascontiguousarray(bend.matrix) for bend in penalty.bends}
    keep += matrices.values()
    found = []
    offset = 0
    for part in order:
        matrix = matrices.get((part.layer, part.at))
        if part.kind == SPLINES and matrix is not None:
            found.append([offset, len(matrix), len(part.subnodes), matrix.ctypes.data])
        offset += len(part.public)
    return found


def _address(array: NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@cache
def _kernels(library: ctypes.CDLL) -> ctypes.CDLL:
    """Set the argument types of the library's functions."""
    take = {
        "work": (_INT, [_ADDRESS]),
        "prepare": (None, [_ADDRESS]),
        "loss": (_DOUBLE, [_ADDRESS] * 2),
        "penalty": (_DOUBLE, [_ADDRESS] * 2),
        "height": (_INT, [_ADDRESS]),
        "normal": (None, [_ADDRESS] * 3),
        "step_work": (_INT, [_ADDRESS]),
        "linearise": (ctypes.c_int, [_ADDRESS, _ADDRESS, _DOUBLE, _ADDRESS, _ADDRESS]),
        "step": (None, [*[_ADDRESS] * 4, _DOUBLE, *[_ADDRESS] * 3]),
    }
    for name, (result, arguments) in take.items():
        function = getattr(library, f"kanserve_squares_{name}")
        function.restype, function.argtypes = result, arguments
    library.kanserve_squares_leading.restype, library.kanserve_squares_leading.argtypes = _INT, [_INT]
    return library
