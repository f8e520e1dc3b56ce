"""More requests than a server can answer, and many for a while: short here, long by `make soak`."""

from tests import loads, serving


def test_overload_is_refused_at_once_and_takes_nothing_from_those_who_are_answered():
    # What else the machine does takes from the goodput too: the best of five.
    tried = []
    for _ in range(5):
        found = loads.overload(serving.sleeping(0.1), times=10, seconds=1.5)
        assert found.codes == {"OK", "RESOURCE_EXHAUSTED"}
        tried.append(found)
        if found.refusal < 0.010 and found.goodput >= 0.8 * found.capacity:
            print(found)
            return
    raise AssertionError(tried)


def test_load_leaves_nothing_behind():
    found = loads.endure(3)
    print(found)
    assert found.calls > 100
    assert found.end.descriptors <= found.warm.descriptors
    assert found.end.threads <= found.warm.threads + 2  # grpc's own come and go
    assert found.end.memory - found.warm.memory < 4 * 2**20
