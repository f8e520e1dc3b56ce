"""More requests than a server can answer: what is refused, what is answered, and what load leaves behind."""

import queue
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from kanserve import repository
from kanserve.inference import wire
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support.servers import server_load, server_process, serving
from tests.support.servers.server_load import AT_ONCE
from tests.support.servers.serving import WAIT, infer_request


def test_overload_is_refused_at_once_and_takes_nothing_from_those_who_are_answered(tmp_path: Path) -> None:
    """Ten times as many as may be computed: the rest is refused while none of these has ended, and each is answered."""
    gate = tmp_path / "gate"
    gate.mkdir()
    repository.publish(tmp_path / "models", "held", serving.held(gate))
    settings = Settings(str(tmp_path / "models"), port=0, concurrency=AT_ONCE)
    with start(settings) as server, grpc.insecure_channel(server.address) as channel:
        infer: Any = wire.stub(channel).ModelInfer
        for _ in range(3):  # who is refused takes no place, or the next round would have fewer
            came: queue.SimpleQueue[Any] = queue.SimpleQueue()
            for _ in range(10 * AT_ONCE):
                infer.future(infer_request("held", np.array([[WAIT]])), timeout=60).add_done_callback(came.put)
            refused = [came.get(timeout=60).code() for _ in range(9 * AT_ONCE)]
            assert set(refused) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            server_process.until(lambda: len(list(gate.iterdir())) == AT_ONCE)
            assert came.empty()
            (gate / "go").touch()
            assert [came.get(timeout=60).code() for _ in range(AT_ONCE)] == AT_ONCE * [grpc.StatusCode.OK]
            for path in gate.iterdir():
                path.unlink()


@pytest.mark.slow
@pytest.mark.extended
def test_load_leaves_nothing_behind() -> None:
    found = server_load.endure(3)
    print(found)
    assert found.calls > 100
    assert found.end.descriptors <= found.warm.descriptors
    assert found.end.threads <= found.warm.threads + 2  # grpc's own come and go
    assert found.end.memory - found.warm.memory < 4 * 2**20
