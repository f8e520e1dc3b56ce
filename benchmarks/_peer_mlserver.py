"""A peer: MLServer with the same ONNX file in onnxruntime: python _peer_mlserver.py MODEL.onnx PORT.

Runs in its own environment, without kanserve.
"""

import asyncio
import sys

import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse


class Onnx(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(payload.inputs[0])
        (y,) = self.session.run(None, {"x": x})
        return InferenceResponse(
            model_name=self.name, model_version=self.version, outputs=[NumpyCodec.encode_output("y", y)]
        )


async def main(model: str, port: int) -> None:
    # Its fastest setup in one process: no process pool, no log line per request, no metrics port.
    server = MLServer(
        Settings(
            host="127.0.0.1",
            grpc_port=port,
            http_port=port + 1,
            parallel_workers=0,
            metrics_endpoint=None,
            debug=False,
        )
    )
    await server.start([ModelSettings(name="kan", implementation=Onnx, parameters=ModelParameters(uri=model))])


if __name__ == "__main__":
    import uvloop

    uvloop.install()
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
