"""Triton's HTTP client against a server: python triton_http_client.py ADDRESS MODEL X Y, where it is installed."""

import ast
import sys
from typing import Any

import numpy as np
import tritonclient.http as triton


def main(address: str, model: str, x: np.ndarray, y: np.ndarray) -> None:
    client = triton.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready()
    print("is_server_live, is_server_ready")
    assert client.is_model_ready(model) and client.is_model_ready(model, "1")
    print("is_model_ready")
    assert client.get_server_metadata()["name"] == "kanserve"
    assert [tensor["name"] for tensor in client.get_model_metadata(model)["inputs"]] == ["x"]
    print("get_server_metadata, get_model_metadata")
    assert client.get_model_config(model)["name"] == model
    print("get_model_config")
    for binary_input in (True, False):
        tensor = triton.InferInput("x", list(x.shape), "FP64")
        tensor.set_data_from_numpy(x, binary_data=binary_input)
        json, binary = (triton.InferRequestedOutput("y", binary_data=chosen) for chosen in (False, True))
        asked: tuple[list[Any] | None, ...] = ([], None, [json], [binary])
        for outputs in asked:
            result = client.infer(model, [tensor], outputs=outputs, request_id="7")
            np.testing.assert_allclose(result.as_numpy("y"), y, rtol=1e-9, atol=1e-12)
            assert result.get_response()["id"] == "7"
        for coding in ("gzip", "deflate"):
            result = client.infer(
                model, [tensor], request_compression_algorithm=coding, response_compression_algorithm=coding
            )
            np.testing.assert_allclose(result.as_numpy("y"), y, rtol=1e-9, atol=1e-12)
        print(f"infer, {'binary' if binary_input else 'JSON'}: all outputs, in JSON, in binary, gzip, deflate")
    result = client.async_infer(model, [tensor]).get_result()
    np.testing.assert_allclose(result.as_numpy("y"), y, rtol=1e-9, atol=1e-12)
    print("async_infer")
    assert client.get_inference_statistics(model)["model_stats"][0]["inference_stats"]["success"]["count"] >= 1
    print("get_inference_statistics")
    assert model in {entry["name"] for entry in client.get_model_repository_index()}
    print("get_model_repository_index")
    client.unload_model(model)
    assert not client.is_model_ready(model)
    client.load_model(model)
    assert client.is_model_ready(model)
    print("unload_model, load_model")
    try:
        client.infer("no such model", [tensor])
    except triton.InferenceServerException as error:
        assert "no such model" in str(error)
        print(f"an error: {error}")
    client.close()


if __name__ == "__main__":
    address, model, x, y = sys.argv[1:]
    main(address, model, np.array(ast.literal_eval(x)), np.array(ast.literal_eval(y)))
