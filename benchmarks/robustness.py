"""Robustness: fits that may not go wrong, and may not be bad without a word.

46 kinds of data that could fail quietly (`_named_fits.py`), such as units of 1e12, outliers, steps and few rows: each
fit is good, warns or refuses. Then 400 random fits of nasty data (`_random_fits.py`): no exception, nothing that is not
finite, nothing worse than the mean, equal networks when repeated. It exits with 1 if anything is wrong.

    OMP_NUM_THREADS=1 python benchmarks/robustness.py [--small] [--named | --random]
"""

import sys
from collections.abc import Sequence

from benchmarks import _named_fits, _random_fits
from benchmarks._timing import machine


def main(arguments: Sequence[str]) -> int:
    small = "--small" in arguments
    wrong = False
    print(machine("kanserve", "numpy", "scikit-learn", "torch"))
    if "--random" not in arguments:
        named = [_named_fits.measure(one) for one in _named_fits.cases(small)]
        wrong |= any(one.silent for one in named)
        print("\n" + _named_fits.report(named), flush=True)
    if "--named" not in arguments:
        tallies = _random_fits.measure(_random_fits.SMALL if small else _random_fits.FITS)
        wrong |= any(any(tally.counts) for tally in tallies.values())
        print("\n" + _random_fits.report(tallies))
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
