"""The C source of the zoo and of 200 random networks: builds in silence, is the network, and stays within its arrays.

Many networks are one translation unit, which costs the compiler a third of the time of as many files and shows that
nothing has a name without the model's prefix.
"""

import platform

import numpy as np
import pytest

from kanserve_exporters import c_source
from tests.support.c_agreement import answers, write
from tests.support.c_builds import CPP, SANITIZED, run
from tests.support.networks.random_networks import CASES, PORTIONS, portion
from tests.support.row_agreement import assert_held

# The widths of vectors that there are kernels for; a processor that has none of them gets what it has.
WIDTHS = ("native", "native", "x86-64", "x86-64-v3", "native") if platform.machine() == "x86_64" else ("native",) * 5
# Of each access, which takes half of the time; what lies outside an array is found by the address.
WITHOUT_PLACES = ("-fno-sanitize=null,alignment,pointer-overflow,object-size",)


@pytest.mark.slow
@pytest.mark.parametrize(("which", "precision"), CASES)
def test_c_is_the_network_and_builds_in_silence_and_stays_in_its_arrays(which, precision, tmp_path, monkeypatch):
    if which != "zoo":  # formulas take longer to write than all else of a source, and stand in a text
        monkeypatch.setattr(c_source, "formula_lines", lambda kan: [])
    kans = portion(which)
    x = write(tmp_path, kans, precision)
    width = f"-march={WIDTHS[PORTIONS.index(which)]}"
    fast = (width, *(f"-D{name}_FAST" for name in kans))
    run(*CPP, "-fsyntax-only", "all.c", at=tmp_path)
    run(*CPP, "-fsyntax-only", *fast, "all.c", at=tmp_path)
    # What takes the compiler long it does in one of the two precisions, by turns. test_c_library.py takes -O3.
    optimised = (PORTIONS.index(which) + (precision == "float")) % 2 == 0
    builds: dict[str, tuple[str, ...]] = {"portable": ("-O0", "-ffp-contract=off", *SANITIZED)}
    if optimised:
        builds["fast"] = ("-O1", "-ffp-contract=fast", *fast)
    elif which in ("zoo", 2):
        some = [f"-D{name}_FAST" for name in list(kans)[:: 1 if which == "zoo" else 4]]
        builds["fast"] = ("-O0", "-ffp-contract=fast", width, *some, *SANITIZED, *WITHOUT_PLACES)
    for build, flags in builds.items():
        for name, (at_once, one_by_one) in answers(tmp_path, kans, precision, *flags).items():
            assert_held(kans[name], x[name], at_once, precision, f"{build} {name}, rows at once")
            if build == "portable":
                assert np.array_equal(at_once, one_by_one, equal_nan=True), f"{name}: a batch gives other bits"
            else:
                assert_held(kans[name], x[name], one_by_one, precision, f"{build} {name}, one by one")
