"""What a server says when it starts."""

import logging

from kanserve.serve.processes import lifecycle
from kanserve.serve.settings import Settings

ADDRESS = "127.0.0.1:8001"
SIGNAL = Settings(model_control="signal")


def said(caplog, *reasons: tuple[str, int, str]) -> list[str]:
    summary = {"loaded": [["iris", 2]], "reasons": [list(reason) for reason in reasons]}
    with caplog.at_level(logging.INFO, logger="kanserve.process"):
        lifecycle.announce(summary, SIGNAL, ADDRESS, {}, "native")
    return [record.getMessage() for record in caplog.records]


def test_it_says_what_is_not_served_and_why(caplog):
    assert said(caplog, ("iris", 1, "the file is gone"), ("iris", 2, "the new file is broken")) == [
        "version 1 of 'iris' is not served: the file is gone",
        "version 2 of 'iris' is served as it was: the new file is broken",
        f"serving 1 model: gRPC (native) on {ADDRESS}",
    ]


def test_it_says_what_is_at_which_url_by_which_transport_and_the_address_of_grpc_last(caplog):
    urls = {"REST": "http://127.0.0.1:8002/v2", "metrics": "http://127.0.0.1:8002/metrics"}
    with caplog.at_level(logging.INFO, logger="kanserve.process"):
        summary = {"loaded": [["iris", 1], ["rose", 1]], "reasons": []}
        lifecycle.announce(summary, Settings(), ADDRESS, urls, "grpcio; KANSERVE_NATIVE=0", 2)
    assert caplog.messages == [
        "serving 2 models by 2 processes, looking for new versions every 5 s: REST at http://127.0.0.1:8002/v2, "
        f"metrics at http://127.0.0.1:8002/metrics, gRPC (grpcio; KANSERVE_NATIVE=0) on {ADDRESS}"
    ]


def test_a_model_whose_versions_cannot_be_listed_has_no_version_0(caplog):
    assert said(caplog, ("rose", 0, "its folder cannot be read"))[0] == (
        "every version of 'rose' is not served: its folder cannot be read"
    )


def test_versions_that_stay_though_their_folder_cannot_be_listed_are_said_to_be_served(caplog):
    why = "its folder cannot be read"
    assert said(caplog, ("iris", 0, why), ("iris", 2, why))[:-1] == [f"version 2 of 'iris' is served as it was: {why}"]


def test_it_says_which_versions_have_come_and_gone(caplog):
    before, now = {"loaded": [["iris", 1], ["rose", 1]]}, {"loaded": [["iris", 1], ["iris", 2]]}
    with caplog.at_level(logging.INFO, logger="kanserve.process"):
        lifecycle.tell_changes({}, before)
        lifecycle.tell_changes(before, before)
        lifecycle.tell_changes(before, now)
    assert caplog.messages == ["version 2 of 'iris' is loaded", "version 1 of 'rose' is unloaded"]
