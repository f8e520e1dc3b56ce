"""More requests than a server can answer, and many for a while: short here, long by `make soak`."""

import pytest

from tests.support.servers import server_load, serving


@pytest.mark.timing
@pytest.mark.extended
def test_a_refusal_costs_the_server_no_more_than_an_answer() -> None:
    """Of its processor's time, of which nothing is left for answers when refusals take it."""
    found = server_load.overload(serving.sleeping(0.1), times=10, seconds=1.5)
    print(found)
    assert found.codes == {"OK", "RESOURCE_EXHAUSTED"}
    assert found.refused > 100 and found.refusing < found.answering
