"""What a supervisor learns from workers that end: how soon another starts, and which version it must not load."""

import signal

from kanserve.serve.processes.restart_policy import DEATHS, LONGEST_PAUSE, Breaker, Quarantine, how

KILLED, CRASHED = -signal.SIGKILL, -signal.SIGSEGV


def test_a_worker_that_was_ready_and_is_killed_is_replaced_at_once_however_often():
    breaker = Breaker()
    assert [breaker.ended(0.25 * n, KILLED, lived=0.2) for n in range(200)] == 200 * [0.0]
    assert not breaker.open


def test_workers_that_end_before_they_are_ready_are_started_again_more_and_more_slowly():
    breaker = Breaker()
    pauses = [breaker.ended(float(n), 1, lived=None) for n in range(DEATHS + 8)]
    assert pauses == DEATHS * [0.0] + [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, LONGEST_PAUSE]
    assert breaker.open


def test_one_that_is_ready_in_between_shows_that_there_is_no_loop():
    breaker = Breaker()
    for n in range(50):
        if n % DEATHS == 0:
            breaker.ready()
        assert breaker.ended(float(n), KILLED, lived=None) == 0.0


def test_workers_that_are_ready_and_crash_in_a_loop_are_started_again_more_slowly_until_one_lives():
    breaker = Breaker()
    assert [breaker.ended(0.1 * n, CRASHED, lived=0.1) for n in range(DEATHS)] == DEATHS * [0.0]
    assert [breaker.ended(1.0, CRASHED, lived=0.1), breaker.ended(2.0, CRASHED, lived=0.1)] == [1.0, 2.0]
    assert breaker.ended(100.0, CRASHED, lived=60.0) == 0.0
    assert not breaker.open


def test_one_that_lives_ends_the_loop_however_it_ends():
    breaker = Breaker()
    for n in range(DEATHS + 3):
        breaker.ended(float(n), 1, lived=None)
    breaker.ready()
    assert breaker.ended(100.0, KILLED, lived=60.0) == 0.0
    assert not breaker.open and breaker.ended(101.0, 1, lived=None) == 0.0


def test_crashes_that_are_far_apart_are_no_loop():
    breaker = Breaker()
    assert [breaker.ended(5.0 * n, CRASHED, lived=4.0) for n in range(50)] == 50 * [0.0]


def test_a_version_that_ends_two_workers_at_its_first_loading_is_refused():
    quarantine = Quarantine()
    assert not quarantine.ended(("fox", 2), CRASHED)
    assert not quarantine.reasons
    assert quarantine.ended(("fox", 2), CRASHED)
    assert "SIGSEGV" in quarantine.reasons["fox", 2]
    assert [quarantine.ended(("hen", 1), 0) for _ in range(2)] == [False, True]  # its code may call exit
    assert not quarantine.ended(("fox", 2), CRASHED)  # known already


def test_a_version_that_was_loaded_once_is_not_blamed_for_workers_that_are_killed():
    quarantine = Quarantine()
    quarantine.loaded([("fox", 1)])
    assert not any(quarantine.ended(("fox", 1), KILLED) for _ in range(10))
    assert not quarantine.reasons


def test_what_ended_a_process_is_said_in_words():
    assert how(3) == "ended with exit code 3"
    assert how(-9) == "was ended by SIGKILL"
    assert how(-64) in ("was ended by SIGRTMAX", "was ended by signal 64")


def test_a_version_that_was_good_is_suspected_again_once_it_was_replaced():
    quarantine = Quarantine()
    quarantine.loaded([("fox", 1)])
    assert [quarantine.ended(("fox", 1), CRASHED) for _ in range(3)] == 3 * [False]
    quarantine.replaced(("fox", 1))
    assert [quarantine.ended(("fox", 1), CRASHED) for _ in range(2)] == [False, True]
