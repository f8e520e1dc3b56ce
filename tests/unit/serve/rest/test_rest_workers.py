"""REST with several processes: each answers on the one HTTP port, and counts and changes are those of all."""

import re

import pytest

from kanserve.network.training_range import sample
from kanserve.serve.settings import Settings
from tests.support.servers import server_process, serving
from tests.support.servers.rest_port import TRANSPORTS, call, infer


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_workers_share_the_http_port_their_counts_and_their_changes(repository, transport):
    wanted = Settings(
        str(repository), port=0, http_port=0, workers=2, anonymous=("predict", "read", "manage"), transport=transport
    )
    with server_process.started(wanted) as running:
        found = re.search(r"http://(\S+)/metrics", server_process.said(running, "serving"))
        assert found is not None
        at = found[1]
        x = infer(sample(serving.kan("raw"), 3, seed=0))
        answers = {call(at, "/v2/models/raw/infer", x).body for _ in range(24)}
        assert len(answers) == 1
        (entry,) = call(at, "/v2/models/raw/stats").json["model_stats"]
        assert entry["inference_count"] == 72 and entry["inference_stats"]["success"]["count"] == 24
        page = call(at, "/metrics").body.decode()
        computed = re.findall(
            r'^kanserve_requests_total\{.*method="ModelInfer",model="raw".*\} (\S+)$', page, re.MULTILINE
        )
        assert [float(count) for count in computed] == [24]
        for change, status in (("unload", 404), ("load", 200)):
            assert call(at, f"/v2/repository/models/raw/{change}", {}).status == 200
            assert {call(at, "/v2/models/raw/infer", x).status for _ in range(16)} == {status}
