"""What a hostile checkpoint takes before it is refused."""

import numpy as np
import pytest


@pytest.mark.timing
@pytest.mark.extended
def test_no_file_takes_long_or_much_memory(outcomes):
    """Beside what a network takes on average, and what the process held before."""
    usual = np.mean([outcome["seconds"] for outcome in outcomes if outcome["kind"] == "network"])
    assert max(outcome["seconds"] for outcome in outcomes) < 1000 * usual
    assert all(outcome["grown"] <= outcome["held"] / 4 for outcome in outcomes)
