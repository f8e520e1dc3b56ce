"""Convert a network to formulas: build trees, compare them with the network, print them, compare the Python code."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import FormulaError
from kanserve.formula.expressions.checking import CHECKING_TOLERANCE, Expected, differs, expect, require, run
from kanserve.formula.expressions.formula import Formula, FormulaList
from kanserve.formula.expressions.names import identifiers
from kanserve.formula.expressions.real_powers import with_half_powers, with_real_powers
from kanserve.formula.expressions.tree import Table, Tree, evaluate_tree
from kanserve.formula.from_network.domains import breaks, domain, shorten_step
from kanserve.formula.from_network.expression_trees import Trees, trees
from kanserve.formula.from_network.readable_digits import readable, round_constants
from kanserve.formula.from_network.rounding_noise import has_fitted_grids
from kanserve.formula.printing.notations import C99, NOTATIONS_DIGITS, Latex, Python, Text, name_of
from kanserve.formula.printing.unfolding import Dialect, Unfolded, in_descending_powers, print_tree, unfold
from kanserve.network.encoding import without_encoding
from kanserve.network.kan import Kan, Variable, require_kan
from kanserve.network.rounding_error import scale
from kanserve.network.training_range import corners, has_range, ranges, sample

Array = NDArray[np.float64]

CHARACTERS = 25  # of a printed formula, per operation of its limit
SETTLED_ON = 128  # rows on which rounding noise is measured
MOST_VALUES = 10_000_000  # edges × rows; the constants of a larger network are not cleaned of rounding noise
LEFT_OUT = 0.1  # share of the tolerance that removing rounding noise may use in all
DEEPEST = 150  # nested brackets: Python's parser rejects 200, a C compiler may reject 256
# Of the training range, on which a rounded formula is compared with the exact one; its corners are extra.
READABLE_DIGITS_ROWS = 1000

_FURTHER_OUT = (1.0, 10.0, 100.0, 1000.0)  # factors on range and tolerance, where the range is only a guess


def formulas(kan: Kan, *, limit: int = 2000, strict: bool = True, named: bool = False) -> FormulaList:
    """One formula per output (the scores of a classifier), in raw features, compared with the network.

    A formula of more than `limit` operations, repetitions included, is shown shortened; its tree is complete.
    FormulaError if a formula differs from the network by more than 1e-9 of the output's scale and more than rounding
    can explain, or if the network is finite on no row of its training range, so that nothing can be compared.

    FormulaError also if a formula is not finite on one of 1000 rows of the training range or up to 256 corners of it;
    the message says where, and which part. A pole between these rows is missed, but `Formula.domain` has its condition.
    With strict=False the formula is returned, with the conditions in `Formula.domain`. If the range of one of its
    inputs is unknown, this check is skipped.

    Text and LaTeX have as many digits as they need: evaluated on rows of the training range, they are within 1e-4 of
    the standard deviation of the output there. Decimals of up to six digits stay, and where the range of an input is
    unknown, no number has fewer than six. With `named`, numbers are shown by name where they have one: pi/2, 1/3,
    sqrt(2). Python and C always have all digits.

    Rounding noise in the constants of a fitted network is removed where it can be recognised: 1e-17 beside x,
    0.9999999999999 for 1. All removals together change at most 1e-10 of the output's scale. A network made from a
    formula (`from_formula`) keeps its constants as they are.

    A formula is in the numbers that the network sees: `Formula.definitions` says which these are of an input that is
    categorical or may be missing.

    A formula has only what its output depends on. If only a node that leads to no output is not finite (log of a
    negative number, say), the network gives NaN and the formula a number.

    Parameters
    ----------
    kan : Kan
        The network.
    limit : int, default=2000
        Operations up to which a formula is shown completely.
    strict : bool, default=True
        Whether to raise for a formula that is not finite on all of the training range.
    named : bool, default=False
        Whether text and LaTeX show pi/2 and 1/3 by name.

    Returns
    -------
    tuple of Formula
        One per output; it prints as a line for each.

    Raises
    ------
    FormulaError
        A formula differs from the network or, with strict, is not finite everywhere.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.formulas(kan)[0].text
    '2*x + 1'
    >>> kanserve.formulas(kan)
    y = 2*x + 1
    """
    require_kan(kan)
    known = _known.setdefault(kan, {})
    if (limit, strict, named) not in known:
        known[limit, strict, named] = _compute(kan, limit, strict, named)
    return known[limit, strict, named]


# A network never changes, and to compute its formulas takes half the time of an export, which asks twice.
_known: WeakKeyDictionary[Kan, dict[tuple[int, bool, bool], FormulaList]] = WeakKeyDictionary()


def _compute(kan: Kan, limit: int, strict: bool, named: bool) -> FormulaList:
    given, kan = kan.inputs, without_encoding(kan)
    wanted = expect(kan)
    built = _agreeing(kan, wanted)
    texts = [in_descending_powers(_readable(kan, tree, built.tables, limit, named)) for tree in built.trees]
    result = FormulaList(
        _with_encoding(_formula(kan, q, tree, text, built.tables, limit, named), given)
        for q, (tree, text) in enumerate(zip(built.trees, texts, strict=True))
    )
    for q, formula in enumerate(result):
        if formula.python:
            require(wanted, q, formula.name, run(formula, wanted.x))
        if strict:
            _require_finite(wanted, formula, texts[q])
    return result


def _readable(kan: Kan, tree: Tree, tables: Mapping[str, Table], limit: int, named: bool) -> Tree:
    """Round the constants to the digits of the text: few if the training range is known, at least six if not."""
    if not unfold(tree, limit).whole:
        return round_constants(tree, NOTATIONS_DIGITS)  # its text is shortened, and cannot be evaluated
    columns = [int(step[1]) for step in tree if step[0] == "var"]
    fewest = 1 if has_range(kan)[columns].all() else NOTATIONS_DIGITS
    exact = {n for n, step in enumerate(tree) if named and step[0] == "const" and name_of(abs(step[1])) is not None}
    x = sample(kan, READABLE_DIGITS_ROWS)
    return readable(tree, tables, x, corners(kan), fewest=fewest, exact=exact)


def _require_finite(wanted: Expected, formula: Formula, text: Tree) -> None:
    """Raise FormulaError if a formula is not finite on the checked rows of the training range. `text` is its tree with
    rounded constants, for the message."""
    kan = wanted.kan
    if not has_range(kan)[list(formula.columns)].all():
        return
    found = breaks(formula.tree, formula.tables, wanted.undefined)
    if found is None:
        return
    row, step = found
    values = {kan.inputs[i].name: float(wanted.undefined[row, i]) for i in formula.columns}
    part = shorten_step(text, step, [variable.name for variable in kan.inputs])
    raise FormulaError(
        f"The formula of output {formula.name!r} is not finite everywhere in the training range: at row {values} "
        f"it has no finite {part}. formulas(kan, strict=False) returns it, with its conditions as `domain`: "
        f"{'; '.join(formula.domain) or 'none but overflow'}."
    )


def _agreeing(kan: Kan, wanted: Expected) -> Trees:
    """The trees in canonical form, or step by step as the network computes if the canonical form loses digits."""
    canonical = _settle(kan, wanted)
    # Not forgiving: rounding does not excuse an identity, and x + 1e13 - 1e13 stays as it is.
    lossy = [
        q
        for q, tree in enumerate(canonical.trees)
        if differs(wanted, q, evaluate_tree(tree, canonical.tables, wanted.x), forgiving=False).any()
    ]
    if not lossy:
        return canonical
    plain = trees(kan, fold=False)
    chosen = list(canonical.trees)
    for q in lossy:
        chosen[q] = plain.trees[q]
        require(wanted, q, kan.outputs[q].name, evaluate_tree(chosen[q], plain.tables, wanted.x))
    return Trees(tuple(chosen), {**canonical.tables, **plain.tables})


def _settle(kan: Kan, wanted: Expected) -> Trees:
    """The trees in canonical form. Rounding noise of a fitted network is removed if that does not change the values."""
    plain = trees(kan)
    rows = wanted.x[:: -(-len(wanted.x) // SETTLED_ON)]
    if (
        not has_fitted_grids(kan)
        or len(rows) * sum(layer.subnodes * layer.inputs for layer in kan.layers) > MOST_VALUES
    ):
        return plain
    settled = trees(kan, x=rows)
    chosen = [
        after if after != before and _same(kan, wanted.x, before, after, plain.tables) else before
        for before, after in zip(plain.trees, settled.trees, strict=True)
    ]
    return Trees(tuple(chosen), plain.tables)


def _same(kan: Kan, x: Array, before: Tree, after: Tree, tables: Mapping[str, Table]) -> bool:
    """Whether two trees agree on these rows, and further out for inputs whose range is unknown."""
    told = has_range(kan)
    middle = ranges(kan).mean(axis=1)
    for factor in _FURTHER_OUT[:1] if told.all() else _FURTHER_OUT:
        rows = np.where(told, x, middle + factor * (x - middle))
        wanted, got = (evaluate_tree(tree, tables, rows) for tree in (before, after))
        finite = np.isfinite(wanted)
        close = factor * LEFT_OUT * CHECKING_TOLERANCE * scale(wanted[finite, None])[:, 0]
        if not (np.abs(got - wanted)[finite] <= close).all():
            return False
    return True


def _formula(
    kan: Kan, q: int, tree: Tree, text_tree: Tree, tables: Mapping[str, Table], limit: int, named: bool
) -> Formula:
    """The formula of an output; `text_tree` is the tree with the constants of its text."""
    names = [variable.name for variable in kan.inputs]
    words = identifiers(names)
    columns = sorted({int(step[1]) for step in tree if step[0] == "var"})
    splines = sorted({str(step[1]) for step in tree if step[0] == "spline"})
    unfolded = unfold(tree, limit)
    longest = max(CHARACTERS * limit, 1000)
    read = with_half_powers(with_real_powers(text_tree))
    text, text_whole = _show(read, limit, Text(names, named=named), longest)
    latex, latex_whole = _show(read, limit, Latex(names, named=named), 2 * longest)
    python, c = _python(_code(unfolded, Python(words), longest)), _code(unfolded, C99(words), longest)
    spans = ranges(kan)
    told = np.where(has_range(kan)[:, None], spans, [-np.inf, np.inf]).tolist()
    return Formula(
        name=kan.outputs[q].name,
        text=text,
        latex=latex,
        python=python,
        c=c,
        closed_form=not splines,
        variables=tuple(
            Variable(names[i], kan.inputs[i].unit, float(spans[i, 0]), float(spans[i, 1])) for i in columns
        ),
        identifiers=tuple(words[i] for i in columns),
        tree=tree,
        tables={name: tables[name] for name in splines},
        shortened=not (text_whole and latex_whole and python and c),
        domain=domain(tree, tables, names, [(low, high) for low, high in told], text_tree),
    )


def _with_encoding(formula: Formula, inputs: Sequence[Variable]) -> Formula:
    """Copy the fill values and categories of the network's inputs to the formula's variables."""
    encoding = ("fill_value", "categories", "category_values")
    variables = [
        replace(variable, **{name: getattr(inputs[column], name) for name in encoding})
        for variable, column in zip(formula.variables, formula.columns, strict=True)
    ]
    return replace(formula, variables=tuple(variables))


def _show(tree: Tree, limit: int, dialect: Dialect, longest: int) -> tuple[str, bool]:
    """Print as many operations as fit, at most `limit`. Returns the text, and whether it is complete."""
    while True:
        unfolded = unfold(tree, limit)
        text = print_tree(unfolded, dialect, longest)
        if text is not None:
            return text, unfolded.whole
        limit //= 2


def _code(unfolded: Unfolded, dialect: Dialect, longest: int) -> str:
    """The expression as code, or "" if it is too long or too deep: shortened code would be wrong."""
    text = print_tree(unfolded, dialect, longest) if unfolded.whole else None
    return text if text is not None and _depth(text) <= DEEPEST else ""


def _python(text: str) -> str:
    """The expression if Python's compiler accepts it, else "". Its limits differ between versions."""
    try:
        compile(text or "0", "<formula>", "eval")
    except (SyntaxError, MemoryError, RecursionError):
        return ""
    return text


def _depth(text: str) -> int:
    """The maximum nesting depth of brackets."""
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    return deepest
