"""Numbers of 16 bits: exact on the way in, rounded once on the way out, and refused where they do not come raw."""

from dataclasses import replace

import numpy as np
import pytest

from kanserve import repository
from kanserve.artifact_compiler import compile
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Variable
from kanserve.network.training_range import sample
from kanserve.serve.rpc.range_violations import bounds
from kanserve.serve.rpc.tensors import as_datatype, floats, to_bfloat16, to_float32
from kanserve.serve.server import start
from tests.support.networks import kans
from tests.support.servers import serving

ALL = np.arange(2**16, dtype=np.uint32).astype("<u2")  # the bits of every number of 16 bits


def nearest(values: np.ndarray) -> np.ndarray:
    """BF16 by the definition: of all its numbers the nearest, of two the even one (slow)."""
    numbers = np.arange(0x7F80, dtype=np.uint32)
    grid = (numbers << 16).view(np.float32).astype(np.longdouble)
    magnitude = np.abs(values).astype(np.longdouble)
    above = np.clip(np.searchsorted(grid, magnitude), 1, len(grid) - 1)
    down, up = magnitude - grid[above - 1], grid[above] - magnitude
    bits = np.where((up < down) | ((up == down) & (above % 2 == 0)), above, above - 1)
    return np.asarray(bits | np.where(np.signbit(values), 0x8000, 0), "<u2")


def test_every_number_of_16_bits_comes_back_as_it_was():
    for bits in ALL.view("<f2"), ALL:
        wide = to_float32(bits)
        assert wide.dtype == np.float32
        kept = np.isfinite(wide)
        datatype = "FP16" if bits.dtype.kind == "f" else "BF16"
        for values in wide[kept], wide[kept].astype(np.float64):
            np.testing.assert_array_equal(as_datatype(values[:, None], datatype)[:, 0], bits[kept])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_are_rounded_once_to_the_nearest_and_a_half_to_the_even_one(dtype):
    rng = np.random.default_rng(0)
    whole = (rng.integers(1, 0x7F7F, 3000).astype(np.uint32) << 16).view(np.float32).astype(dtype)
    after = (whole.astype(np.float32).view(np.uint32) + 0x10000).view(np.float32).astype(dtype)
    halves = whole / 2 + after / 2
    # Just beside a half, too near for float32 to tell: rounding to that first would make it one.
    beside = [np.nextafter(halves, np.inf, dtype=dtype), np.nextafter(halves, -np.inf, dtype=dtype)]
    values = np.concatenate([halves, *beside, rng.normal(size=3000).astype(dtype)])
    values = np.concatenate([values, -values])
    np.testing.assert_array_equal(to_bfloat16(values[:, None])[:, 0], nearest(values))


def test_a_row_that_16_bits_cannot_hold_is_nan_in_all_outputs():
    values = np.array([[1.0, 3.4e38], [2.0, 3.0], [np.nan, 0.0], [-np.inf, 1.0]])
    for datatype, wanted in (("BF16", [0x7FC0, 0x7FC0]), ("FP16", [np.nan, np.nan])):
        for given in values, values.astype(np.float32):
            got = as_datatype(given, datatype)
            assert to_float32(got[1]).tolist() == [2.0, 3.0]
            for row in 0, 2, 3:
                np.testing.assert_array_equal(got[row], np.array(wanted).astype(got.dtype))
    loud = np.array([[0xFFFFFFFF], [0x7F800001]], np.uint32).view(np.float32)  # NaN whose bits would carry over
    assert to_bfloat16(loud).tolist() == [[0x7FC0], [0x7FC0]]


@pytest.mark.parametrize(
    ("name", "datatype", "part"),
    [(name, "BF16", 2**-8) for name in ("raw", "single", "iris", "graph", "mixed")]
    + [(name, "FP16", 2**-11) for name in ("iris", "graph", "mixed")],  # the raw features are too large for it
)
def test_a_model_answers_in_the_16_bits_that_it_was_asked_in(stub, name, datatype, part):
    kan = serving.kan(name)
    bits = as_datatype(sample(kan, 40, seed=3), datatype)
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=bits.shape)
    answer = stub.ModelInfer(
        pb.ModelInferRequest(model_name=name, inputs=[tensor], raw_input_contents=[bits.tobytes()])
    )
    wanted = evaluate(kan, to_float32(bits).astype(np.float64))
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == (datatype, list(wanted.shape))
    got = to_float32(np.frombuffer(answer.raw_output_contents[0], bits.dtype)).reshape(wanted.shape)
    # Rounded once to so many bits, after what a model in float32 may be off by; FP16 has no exponent below -24.
    allowed = np.abs(wanted) * part + 2e-5 * np.abs(wanted).max() + 2**-25
    assert (np.abs(got - wanted) <= allowed).all()


@pytest.mark.parametrize("datatype", ["FP64", "FP32", "FP16", "BF16"])
def test_the_ends_of_the_training_range_are_inside_it_in_every_type(tmp_path, datatype):
    kan = replace(kans.one_edge(), inputs=(Variable("u", low=-0.1, high=0.1),))
    repository.publish(tmp_path, "ends", compile(kan, ("numpy_source",)))
    with start(tmp_path, port=0) as server:
        model = server.catalog.find("ends")
        for count in 1, 100:  # one by one, and together
            x = np.tile([[-0.1], [0.1]], (count, 1))
            assert bounds(model, datatype).find_violations(came(x, datatype)) is None
            x[0], x[1] = 0.11, np.nan
            found = bounds(model, datatype).find_violations(came(x, datatype))
            assert found is not None and found.rows.tolist() == [0, 1] and found.features.tolist() == [2]


def came(x: np.ndarray, datatype: str) -> np.ndarray:
    """Rows as they come to a model that is asked in a type."""
    bits = as_datatype(x, datatype)
    return floats(bits.tobytes(), datatype, (len(x), x.shape[1]))
