"""Other projects' suites and clients, as `make conformance` tries them: those that this machine has."""

import pytest

from tests.peers import conformance
from tests.support import programs
from tests.support.faults.attacked_servers import Servers
from tests.support.servers.loop_server import needs_native

pytestmark = [pytest.mark.slow, pytest.mark.extended]


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    needs_native()
    return Servers(tmp_path_factory.mktemp("servers"))


# Schemathesis takes minutes, and what is smuggled has tests of its own.
@pytest.mark.parametrize("part", ["h2spec", "clients"])
def test_nothing_that_is_tried_fails(servers, capsys, part):
    report = conformance.Report()
    conformance.PARTS[part](servers, report)
    said = capsys.readouterr().out
    assert report.wrong == 0, said
    if "passed" not in said:
        programs.skip(part)
