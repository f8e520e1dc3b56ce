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
    """What the exported files are named and compute in, and options of single formats.

    Parameters
    ----------
    name : str
        The model's name, from which files and identifiers are named.
    precision : {"double", "float"}
        The type that the export computes in.
    gradient : bool
        C: with the derivatives of the outputs.
    c_form : {"files", "single_file", "header_only"}
        C: in several files, in one, or as a header only.
    vector_math : bool
        C, for networks of named functions only: with batches that call the C library's vector functions.
    onnx_form : {"functions", "operators"}
        ONNX: "operators" has standard operators only, for runtimes that do not support functions defined in the file,
        such as OpenVINO; our compiled operators cannot replace them.
    opset, ir_version : int
        ONNX: for runtimes with other versions of the operators and of the file; the exporter checks them.
    hessian : bool
        C: with the second derivatives and those of `gradient`.
    intervals : tuple of ConformalInterval
        Written beside the outputs of C, NumPy and ONNX.

    Raises
    ------
    InputError
        A value is of another type, or none of its words.

    Examples
    --------
    >>> import kanserve, pathlib, tempfile
    >>> from kanserve.network.export_options import ExportOptions
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "line"
    >>> files = kan.export(folder, ["numpy_source"], options=ExportOptions(name="line", precision="float"))
    >>> [path.name for path in files]
    ['line.py']
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
