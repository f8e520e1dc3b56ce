"""The limits and metrics of docs/explanation/what-it-withstands.md are those of the code."""

import re

import pytest

from kanserve.native import build
from kanserve.serve.observability import prometheus
from kanserve.serve.rpc import routes
from kanserve.serve.scheduling import thread_pool
from kanserve.serve.settings import Settings
from kanserve.serve.transport import native, native_queue
from tests.support.paths import DOCS

PAGE = " ".join((DOCS / "explanation" / "what-it-withstands.md").read_text("utf-8").split())
SERVING = " ".join((DOCS / "serving.md").read_text("utf-8").split())


def constant(file: str, name: str) -> int:
    """A constant of the C source: a number, or 1 << a number."""
    text = (build.FOLDER / "server" / file).read_text("utf-8")
    (found,) = re.findall(rf"\b{name}(?: =)? \(?(\d+(?: << \d+)?)", text)
    number, _, shift = found.partition(" << ")
    return int(number) << int(shift or 0)


def kib(number: int) -> str:
    return f"{number // 1024} KiB"


CLAIMS = {
    "connections": lambda: f"`--max-connections` {Settings.max_connections}",
    "descriptors that are kept": lambda: f"{native_queue.KEPT_DESCRIPTORS} are kept for files and reloads",
    "connections of REST": lambda: f"{constant('http1/http1.h', 'MOST_CONNECTIONS')} on the REST port",
    "a flood": lambda: f"{constant('http2.c', 'BUCKET')} at once and {constant('http2.c', 'LEAK')} a second",
    "messages of TLS": lambda: f"{constant('tls_context.c', 'MOST_CONTROLS')} without data between them",
    "a turn of TLS": lambda: f"{kib(constant('tls_context.c', 'MOST_READ'))} are read in one turn",
    "a turn": lambda: (
        f"{kib(constant('server.h', 'INPUT_BYTES'))} read, {kib(constant('connection.c', 'OUTPUT'))} written"
    ),
    "a head": lambda: f"the head {native_queue.GREETING_SECONDS:.0f} s",
    "the head's bytes": lambda: f"{kib(constant('http1/http1.h', 'MOST_HEAD'))} of head",
    "a message": lambda: (
        f"the message {thread_pool.PATIENCE / 1e9:.0f} s, {thread_pool.BRIEF / 1e9:.0f} s if it only names"
    ),
    "metadata": lambda: f"{kib(routes.METADATA_BYTES)} of metadata a call",
    "writing": lambda: f"{native_queue.WRITE_SECONDS:.0f} s without a byte",
    "streams": lambda: f"half of `--streams` ({Settings.streams})",
    "the log": lambda: {10.0: "every ten seconds at most"}[native.SECONDS],
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_limit_of_the_page_is_that_of_the_code(name):
    assert CLAIMS[name]() in PAGE


def test_the_table_of_serving_has_the_same():
    assert f"of which REST has {constant('http1/http1.h', 'MOST_CONNECTIONS')}" in SERVING
    flood = f"{constant('http2.c', 'BUCKET')} at once and {constant('http2.c', 'LEAK')} a second for each connection"
    assert flood in SERVING
    assert f"| {constant('tls_context.c', 'MOST_CONTROLS')} messages of TLS itself" in SERVING
    assert f"{native_queue.PING_ANSWER_SECONDS:.0f} seconds for the answer to a ping" in SERVING


def test_metrics_of_the_page_exist_and_each_that_counts_what_gives_way_is_there():
    known = {row.name for row in prometheus.TABLE}
    assert set(re.findall(r"\bkanserve_\w+", PAGE)) <= known
    for name in native.MEANINGS:
        assert name in PAGE
