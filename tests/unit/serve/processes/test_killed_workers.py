"""Workers are killed and a server is told to end, under load; `tests/soak/soak_workers.py` does it for longer."""

import math

import pytest

from tests.soak import soak_workers

pytestmark = pytest.mark.extended


@pytest.mark.slow
def test_workers_that_are_killed_under_load_are_replaced_and_no_request_is_lost_or_answered_wrongly():
    """Callers who have time lose nothing: how few lose anything in a second is what `make soak` measures."""
    # Without a pause between its requests, each caller has one in flight when a worker is killed.
    killed = soak_workers.killed(10, every=0.0, answers=50, rate=math.inf, timeout=300.0, retries=100)
    print(killed)
    assert killed.kills == 10 and killed.seen.requests >= 500
    assert killed.seen.failed == {} and killed.seen.wrong == 0
    assert killed.seen.repeated > 0  # or the kills met nobody


@pytest.mark.slow
def test_sigterm_under_load_completes_all_that_is_in_flight_and_exits_with_0():
    for workers in (1, 2):
        ended = soak_workers.ended(workers)
        print(ended)
        assert ended.good, ended
