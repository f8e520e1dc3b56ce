"""Over REST too a full model refuses, a stopping server answers what it has accepted, a broken one tells nothing."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support.servers import server_process
from tests.support.servers.rest_port import TRANSPORTS, call, infer
from tests.support.servers.serving import BREAK, WAIT

INFER = "/v2/models/slow/infer"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_full_model_refuses_and_a_stopping_server_answers_what_it_has_accepted(slow, transport):
    root, gate = slow
    wanted = Settings(str(root), port=0, http_port=0, concurrency=1, threads=1, transport=transport)
    with start(wanted) as server, ThreadPoolExecutor(2) as pool:
        at = server.http_address
        held = pool.submit(call, at, INFER, infer(np.array([[WAIT]])))
        with open(gate, "w"):  # returns once the model waits for its end
            full = call(at, INFER, infer(np.array([[1.0]])))
            assert full.status == 429 and "limit" in full.error
            assert call(at, "/v2/models/slow").status == 200
            stopped = pool.submit(server.stop, 60)
            server_process.until(lambda: call(at, "/v2/health/ready").status == 503)
            for path, body in ((INFER, infer(np.array([[1.0]]))), ("/v2/models/slow/formula", None)):
                stopping = call(at, path, body)
                assert stopping.status == 503 and "stopping" in stopping.error
            assert call(at, "/v2/health/live").status == 200 == call(at, "/metrics").status
        assert held.result(60).status == 200
        assert stopped.result(60)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_model_that_breaks_is_500_without_its_secrets(slow, transport, caplog):
    with start(Settings(str(slow[0]), port=0, http_port=0, transport=transport)) as server:
        answer = call(server.http_address, INFER, infer(np.array([[BREAK]])), x_request_id="seven")
        assert answer.status == 500 and answer.error == "internal error (request seven)"
    assert "a secret of /the/host" in caplog.text
