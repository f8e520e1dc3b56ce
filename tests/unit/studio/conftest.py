"""A studio on a network and its rows, for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.support.servers.studios import Running, opened_law, running


@pytest.fixture
def studio() -> Iterator[Running]:
    with running(opened_law()) as found:
        yield found
