"""Two versions of a model at once, as docs/kubernetes.md describes: a canary takes part of the calls, a shadow none."""

from pathlib import Path

import grpc
import numpy as np
import pytest

from kanserve import compile, publish
from kanserve.client import Client
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve.server import start
from kanserve.serve.settings import ModelSettings, Settings
from kanserve.train import create

X = np.random.default_rng(0).uniform(-1, 1, (4, 3))


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    where: Path = tmp_path_factory.mktemp("models")
    for seed in (1, 2):
        publish(where, "houses", compile(create([3, 1], grid=5, seed=seed), ["numpy_source"], name="houses"))
    return where


def serving(models: Path, versions: str) -> Settings:
    return Settings(repository=str(models), port=0, models={"houses": ModelSettings(versions=versions)})


def call() -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=X.shape)
    return pb.ModelInferRequest(model_name="houses", inputs=[tensor], raw_input_contents=[X.tobytes()])


def test_a_canary_answers_its_share_of_the_calls_without_a_version(models):
    with start(serving(models, "1")) as stable, start(serving(models, "2")) as canary:
        addresses = f"{stable.address},{canary.address}"  # as a headless Service gives those of all pods
        options = [("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')]
        with grpc.insecure_channel(f"ipv4:{addresses}", options) as channel:
            stub = wire.stub(channel)
            while len({stub.ModelInfer(call(), wait_for_ready=True).model_version for _ in range(4)}) < 2:
                pass  # until both are connected
            versions = [stub.ModelInfer(call()).model_version for _ in range(40)]
    assert versions.count("1") == versions.count("2") == 20


def test_a_shadow_answers_only_who_asks_for_it_and_is_counted_apart(models):
    with start(serving(models, "1,2")) as server, Client(server.address) as client:
        first, second = (client.predict("houses", X, version=version) for version in (1, 2))
        again = client.predict("houses", X, version=1)
        statistics = {entry.version: entry.inference_stats.success.count for entry in _statistics(server.address)}
    assert not np.allclose(np.asarray(first), np.asarray(second))
    assert np.array_equal(np.asarray(first), np.asarray(again))
    assert statistics == {"1": 2, "2": 1}


def _statistics(address: str) -> list[pb.ModelStatistics]:
    with grpc.insecure_channel(address) as channel:
        return list(wire.stub(channel).ModelStatistics(pb.ModelStatisticsRequest(name="houses")).model_stats)
