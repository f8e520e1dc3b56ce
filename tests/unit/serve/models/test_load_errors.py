"""Versions that cannot be loaded: they stop no other, and it is said why."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from kanserve import repository
from kanserve.artifact.format import assemble
from kanserve.client import Client
from kanserve.errors import NotFoundError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve.models import loader
from kanserve.serve.server import Server, start
from tests.support.servers import serving


@contextmanager
def connected(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(server.address) as channel:
        yield wire.stub(channel)


def test_a_broken_version_stops_no_other_and_says_why(tmp_path):
    good = serving.artifact("mixed")
    repository.publish(tmp_path, "good", good)
    for _ in range(3):
        repository.publish(tmp_path, "half", good)
    repository.publish(tmp_path, "bad", good)
    for damaged in ("half/2", "bad/1"):
        with open(tmp_path / damaged / "kan.safetensors", "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"!")
    x, y = good.golden()
    parts = {path: data for path, data in good.files.items() if "/" in path}
    lying = assemble(good.kan(), parts, formulas=good.formulas, golden=(x, y + 1.0))
    repository.publish(tmp_path, "half", lying)
    with start(tmp_path, port=0) as server, Client(server.address) as client:
        assert client.metadata("half").versions == (1, 3)
        assert client.metadata("half").version == 3
        assert client.ready("good") and client.ready("half", 1) and not client.ready("half", 2)
        found = {(model.name, model.version): model for model in client.models()}
        assert [key for key, entry in found.items() if not entry.ready] == [("bad", 1), ("half", 2), ("half", 4)]
        assert "checksum" in found["bad", 1].reason and "golden row" in found["half", 4].reason
        with pytest.raises(NotFoundError, match="checksum"):
            client.predict("bad", [[0.0, 0.0]])
        with pytest.raises(NotFoundError, match="golden row"):
            client.predict("half", [[0.0, 0.0]], 4)
        with connected(server) as stub:
            ready = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))
        assert [(model.name, model.version) for model in ready.models] == [("good", "1"), ("half", "1"), ("half", "3")]


def test_a_backend_whose_files_are_not_in_its_format_is_passed_over(tmp_path):
    good = serving.artifact("raw")
    parts = {path: data for path, data in good.files.items() if "/" in path}
    (library,) = (path for path in parts if path.endswith(".so"))
    parts[library] = parts[library][:18] + b"\xb7" + parts[library][19:]  # of another machine
    damaged = assemble(good.kan(), parts, formulas=good.formulas, golden=good.golden())
    repository.publish(tmp_path, "raw", damaged)
    catalog = loader.load(tmp_path)
    assert not catalog.reasons and catalog.find("raw").kind == "onnx_graph"
