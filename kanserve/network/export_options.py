"""Options of the exporters."""

from dataclasses import dataclass
from typing import Literal, get_args

from kanserve.errors import InputError
from kanserve.network.conformal_intervals import ConformalInterval

Precision = Literal["float", "double"]
CForm = Literal["files", "single_file", "header_only"]
OnnxForm = Literal["functions", "operators"]

_WORDS = {"precision": Precision, "c_form": CForm, "onnx_form": OnnxForm}
_KINDS = {"name": str, "gradient": bool, "hessian": bool, "vector_math": bool, "opset": int, "ir_version": int}


@dataclass(frozen=True)
class ExportOptions:
    """The model's name, from which files and identifiers are named, and the type that the export computes in.

    The other options are for single formats. C: with the derivatives of the outputs (`gradient`), with the second ones
    too (`hessian`, which has those of `gradient`), in one file or as a header only (`c_form`), and, for networks of
    named functions only, with batches that call the C library's vector functions (`vector_math`). ONNX: for runtimes
    with other versions of the operators and of the file (`opset`, `ir_version`), and for runtimes that do not support
    functions defined in the file (OpenVINO), with standard operators only (`onnx_form`), which our compiled operators
    cannot replace. `intervals` are written beside the outputs of C,
    NumPy and ONNX. InputError for an invalid value; the exporter checks the versions.
    """

    name: str = "model"
    precision: Precision = "double"
    gradient: bool = False
    c_form: CForm = "files"
    vector_math: bool = False
    onnx_form: OnnxForm = "functions"
    opset: int = 18
    ir_version: int = 9
    hessian: bool = False
    intervals: tuple[ConformalInterval, ...] = ()

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            value, allowed = getattr(self, name), get_args(words)
            if not isinstance(value, str) or value not in allowed:
                raise InputError(f"The option {name} must be {' or '.join(map(repr, allowed))}, got {value!r:.80}.")
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise InputError(f"The option {name} must be of the type {kind.__name__}, got {value!r:.80}.")
