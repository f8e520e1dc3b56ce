"""The half widths of prediction intervals as constants in C, one array for each level."""

from collections.abc import Sequence

import numpy as np

from kanserve.network.conformal_intervals import ConformalInterval
from kanserve_exporters._c.layers import decimal_list
from kanserve_exporters._shared.expressions import Dialect

_HEADER = """
/* Half the width of the {percent} % prediction intervals: a new value of output q is within y[q] +/- @{name}[q] with at
 * least that probability, if its row is drawn as those were on which this was measured. */
extern const @real @{name}[@N_OUT];
"""


def declarations(intervals: Sequence[ConformalInterval]) -> str:
    return "".join(_HEADER.format(percent=one.percent, name=_name(one)) for one in intervals)


def definitions(intervals: Sequence[ConformalInterval], dialect: Dialect) -> str:
    return "".join(
        f"\nconst @TABLE @real @{_name(one)}[@N_OUT] = {{{decimal_list(np.array(one.half_widths), dialect)}}};\n"
        for one in intervals
    )


def _name(one: ConformalInterval) -> str:
    return f"interval_{one.percent.replace('.', '_')}"
