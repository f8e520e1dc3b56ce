"""What an attacker may try, a part of it; `python -m tests.soak.soak_security` does it at length."""

import sys

import pytest

from tests.soak import soak_security

pytestmark = pytest.mark.slow

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux says it")


@pytest.mark.extended
@linux
def test_thousands_of_hostile_requests_are_answered_or_refused_and_leave_nothing_behind():
    print(soak_security.hostile_requests(2500))


@pytest.mark.extended
def test_hostile_names_open_no_file_outside_of_the_repository():
    print(soak_security.hostile_names(120))


@pytest.mark.extended
@linux
def test_floods_are_refused_before_they_take_memory():
    print(soak_security.floods(200))
