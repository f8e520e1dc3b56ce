"""A peer: KServe's ModelServer with the same ONNX file in onnxruntime: python _peer_kserve.py MODEL.onnx PORT.

Runs in its own environment, without kanserve.
"""

import sys

import onnxruntime

MODEL, PORT = sys.argv[1], int(sys.argv[2])
del sys.argv[1:]  # kserve reads them when it is imported

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer  # noqa: E402


class Onnx(Model):
    def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(MODEL, options)
        self.ready = True
        return True

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        (y,) = self.session.run(None, {"x": payload.inputs[0].as_numpy()})
        output = InferOutput("y", list(y.shape), "FP64")
        output.set_data_from_numpy(y, binary_data=True)
        return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=[output])


if __name__ == "__main__":
    model = Onnx("kan")
    model.load()
    ModelServer(grpc_port=PORT, http_port=PORT + 1, enable_latency_logging=False, workers=1).start([model])
