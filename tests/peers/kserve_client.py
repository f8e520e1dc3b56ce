"""KServe's own clients against a server: python kserve_client.py GRPC HTTP MODEL X Y, where kserve is installed."""

import ast
import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig


async def over_grpc(address: str, model: str, x: np.ndarray, y: np.ndarray) -> None:
    client = InferenceGRPCClient(address)
    assert await client.is_server_live()
    print("is_server_live")
    assert await client.is_server_ready()
    print("is_server_ready")
    assert await client.is_model_ready(model)
    print("is_model_ready")
    tensor = InferInput("x", list(x.shape), "FP64")
    tensor.set_data_from_numpy(x, binary_data=True)
    answer = await client.infer(InferRequest(model_name=model, infer_inputs=[tensor]))
    np.testing.assert_allclose(answer.outputs[0].as_numpy(), y, rtol=1e-9, atol=1e-12)
    print("infer")
    await client.close()


async def over_rest(address: str, model: str, x: np.ndarray, y: np.ndarray) -> None:
    base = f"http://{address}"
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        assert await client.is_server_live(base) and await client.is_server_ready(base)
        print("REST: is_server_live, is_server_ready")
        assert await client.is_model_ready(base, model)
        print("REST: is_model_ready")
        for binary in (True, False):
            tensor = InferInput("x", list(x.shape), "FP64")
            tensor.set_data_from_numpy(x, binary_data=binary)
            answer = await client.infer(base, InferRequest(model_name=model, infer_inputs=[tensor]), model)
            np.testing.assert_allclose(answer.outputs[0].as_numpy(), y, rtol=1e-9, atol=1e-12)
            print(f"REST: infer, {'binary' if binary else 'JSON'}")


if __name__ == "__main__":
    grpc, http, model, *rows = sys.argv[1:]
    x, y = (np.array(ast.literal_eval(text)) for text in rows)
    asyncio.run(over_grpc(grpc, model, x, y))
    if http != "-":  # an edge server has no REST
        asyncio.run(over_rest(http, model, x, y))
