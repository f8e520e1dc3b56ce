"""Workers are killed and a server is told to end, under load; `python -m tests.soak_workers` does it for longer."""

from tests import soak_workers


def test_workers_that_are_killed_under_load_are_replaced_and_no_request_is_lost_or_answered_wrongly():
    killed = soak_workers.killed(3.0)
    print(killed)
    assert killed.good, killed
    assert killed.seen.requests > 300 and killed.kills >= 10


def test_sigterm_under_load_completes_all_that_is_in_flight_and_exits_with_0():
    for workers in (1, 2):
        ended = soak_workers.ended(workers)
        print(ended)
        assert ended.good, ended
