"""The raw column from which each column that a pipeline hands to its last step comes, and the categories of raw
columns. Steps that do not change each column by itself are refused by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from kanserve.errors import InputError


@dataclass(frozen=True)
class Column:
    """A column between pipeline steps: the raw column that it comes from, and whether it is unchanged."""

    source: str
    plain: bool = True

    def mark_changed(self) -> "Column":
        return Column(self.source, plain=False)


Columns = list[Column]


@dataclass
class Walk:
    """A walk through the steps of a pipeline, which collects the categories of raw columns."""

    categories: dict[str, list[Any]] = field(default_factory=dict)

    def through(self, step: Any, columns: Columns, name: str) -> Columns:
        """The columns after a step. Raises InputError for an unsupported step."""
        for kind, follow in FOLLOWED.items():
            if isinstance(step, kind):
                return follow(self, step, columns, name)
        if step is None or (isinstance(step, str) and step == "passthrough"):
            return columns
        raise InputError(
            f"The step {name!r} of the pipeline, {type(step).__name__}, cannot be made part of a network. Those that "
            f"can: {', '.join(sorted(kind.__name__ for kind in FOLLOWED))}."
        )

    def pipeline(self, step: Any, columns: Columns, name: str) -> Columns:
        for own, inner in step.steps:
            columns = self.through(inner, columns, f"{name}: {own}" if name else own)
        return columns

    def column_transformer(self, step: Any, columns: Columns, name: str) -> Columns:
        result: dict[int, Column] = {}
        for own, inner, chosen in step.transformers_:
            places = _places(step, chosen)
            if not len(places) or (isinstance(inner, str) and inner == "drop"):
                continue
            found = self.through(inner, [columns[place] for place in places], f"{name}: {own}")
            to = range(*step.output_indices_[own].indices(len(result) + len(found) + 10**6))
            result |= dict(zip(to, found, strict=True))
        return [result[place] for place in sorted(result)]

    def scaler(self, step: Any, columns: Columns, name: str) -> Columns:
        if getattr(step, "clip", False):
            raise InputError(
                f"The step {name!r} clips its columns, which a network does not: use extrapolation='clip'."
            )
        return [column.mark_changed() for column in columns]

    def imputer(self, step: Any, columns: Columns, name: str) -> Columns:
        if step.add_indicator:
            raise InputError(
                f"The step {name!r} adds columns that say what is missing. A network learns a value for what is "
                "missing by itself: leave out add_indicator, or the imputer."
            )
        there = [value == value for value in step.statistics_]  # a column without any value is dropped
        return [
            column.mark_changed()
            for column, kept in zip(columns, there, strict=True)
            if kept or step.keep_empty_features
        ]

    def encoder(self, step: Any, columns: Columns, name: str) -> Columns:
        result: Columns = []
        for i, (column, known) in enumerate(zip(columns, step.categories_, strict=True)):
            count = 1
            if isinstance(step, OneHotEncoder):
                dropped = step.drop_idx_ is not None and step.drop_idx_[i] is not None
                count = len(known) - int(dropped)
            seen = self.categories.setdefault(column.source, [])
            seen += [value for value in known if value == value and value is not None and value not in seen]
            result += [column.mark_changed()] * count
        infrequent = getattr(step, "infrequent_categories_", None)
        several = getattr(step, "target_type_", "") == "multiclass"
        if several or (infrequent is not None and any(found is not None for found in infrequent)):
            raise InputError(
                f"The step {name!r} joins rare categories, or has a column for each class; leave out min_frequency and "
                "max_categories, or encode by another encoder."
            )
        return result

    def selector(self, step: Any, columns: Columns, name: str) -> Columns:
        return [column for column, kept in zip(columns, step.get_support(), strict=True) if kept]

    def function(self, step: Any, columns: Columns, name: str) -> Columns:
        if step.func is not None:
            raise InputError(f"The step {name!r} is a function of the user's, which cannot be made part of a network.")
        return columns


FOLLOWED: dict[type, Callable[[Walk, Any, Columns, str], Columns]] = {
    Pipeline: Walk.pipeline,
    ColumnTransformer: Walk.column_transformer,
    StandardScaler: Walk.scaler,
    MinMaxScaler: Walk.scaler,
    MaxAbsScaler: Walk.scaler,
    RobustScaler: Walk.scaler,
    SimpleImputer: Walk.imputer,
    OneHotEncoder: Walk.encoder,
    OrdinalEncoder: Walk.encoder,
    TargetEncoder: Walk.encoder,
    SelectorMixin: Walk.selector,
    FunctionTransformer: Walk.function,
}


def _places(step: Any, chosen: Any) -> Sequence[int]:
    """The positions of the columns that a transformer of a ColumnTransformer takes."""
    if isinstance(chosen, slice):
        return list(range(*chosen.indices(step.n_features_in_)))
    listed = np.atleast_1d(np.asarray(chosen))
    if listed.dtype.kind == "b":
        return [int(place) for place in np.flatnonzero(listed)]
    if listed.dtype.kind in "iu":
        return [int(place) % step.n_features_in_ for place in listed]
    names = list(step.feature_names_in_)
    return [names.index(name) for name in listed.tolist()]
