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

statuses = []

def seen(*, check_name, status, exception, **_):
    statuses.append(status)
    if status != "passed":
        print(check_name, status, repr(exception))

check_estimator(kanserve.{name}(), on_skip=None, on_fail=None, callback=seen)
print(len(statuses), "checks")
"""


@pytest.mark.parametrize("name", ["KANRegressor", "KANClassifier"])
def test_check_estimator_passes_with_no_check_skipped_and_no_failure_expected(name):
    # scikit-learn skips a check unless this variable was there when SciPy was imported: hence another process.
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(name=name)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()  # every other line is a check that did not pass
    assert int(line.removesuffix(" checks")) > 50
