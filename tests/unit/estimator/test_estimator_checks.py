"""scikit-learn's own checks of an estimator, all of them."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import warnings
warnings.simplefilter("error")
from sklearn.utils.estimator_checks import check_estimator
import kanserve
from kanserve.estimator import ExtrapolationWarning
from kanserve.train import TrainingWarning

# The checks fit noise and predict other numbers, and ask how an estimator behaves.
warnings.simplefilter("ignore", TrainingWarning)
warnings.simplefilter("ignore", ExtrapolationWarning)
statuses = []

def seen(*, check_name, status, exception, **_):
    statuses.append(status)
    if status != "passed":
        print(check_name, status, repr(exception))

check_estimator(kanserve.{estimator}, on_skip=None, on_fail=None, callback=seen)
print(len(statuses), "checks")
"""


# Small and soon trained: the checks fit each a hundred times and more, and ask how it behaves, not how well it fits.
@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    "estimator",
    [
        "KANRegressor(hidden=(2,), grid=3, starts=1, steps=20)",
        pytest.param("KANClassifier(hidden=(2,), steps=20)", marks=pytest.mark.extended),
    ],
)
def test_check_estimator_passes_with_no_check_skipped_and_no_failure_expected(estimator):
    # scikit-learn skips a check unless this variable was there when SciPy was imported: hence another process.
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(estimator=estimator)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()  # every other line is a check that did not pass
    assert int(line.removesuffix(" checks")) > 50
