"""KServe's own client against a server: python kserve_client.py ADDRESS MODEL X Y, where kserve is installed."""

import ast
import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest


async def main(address: str, model: str, x: np.ndarray, y: np.ndarray) -> None:
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


if __name__ == "__main__":
    address, model, x, y = sys.argv[1:]
    asyncio.run(main(address, model, np.array(ast.literal_eval(x)), np.array(ast.literal_eval(y))))
