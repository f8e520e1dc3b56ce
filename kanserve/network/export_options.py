"""Options of the exporters."""

from dataclasses import dataclass
from typing import Literal, get_args

from kanserve.errors import ExportError, InputError
from kanserve.network.conformal_intervals import ConformalInterval

Precision = Literal["float", "double"]
ExportPrecision = Literal["float", "double", "int8", "int16"]
CForm = Literal["files", "single_file", "header_only"]
OnnxForm = Literal["functions", "operators"]

_WORDS = {"precision": ExportPrecision, "c_form": CForm, "onnx_form": OnnxForm}
_KINDS = {"name": str, "gradient": bool, "hessian": bool, "vector_math": bool, "opset": int, "ir_version": int}


@dataclass(frozen=True)
class ExportOptions:
    """What the exported files are named and compute in, and options of single formats.

    Parameters
    ----------
    name : str
        The model's name, from which files and identifiers are named.
    precision : {"double", "float", "int16", "int8"}
        The type that the export computes in. C alone computes in integers, with coefficients of 16 or 8 bits.
    tolerance : float, optional
        C in integers: the largest error that is allowed, as a share of each output's range. Without int8 or int16 it
        chooses the smaller one that is proven to be within it.
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
    precision: ExportPrecision = "double"
    gradient: bool = False
    c_form: CForm = "files"
    vector_math: bool = False
    onnx_form: OnnxForm = "functions"
    opset: int = 18
    ir_version: int = 9
    hessian: bool = False
    intervals: tuple[ConformalInterval, ...] = ()
    tolerance: float | None = None

    @property
    def in_integers(self) -> bool:
        """Whether the export computes in integers.

        Examples
        --------
        >>> from kanserve.network.export_options import ExportOptions
        >>> ExportOptions(precision="int16").in_integers, ExportOptions(tolerance=0.01).in_integers
        (True, True)
        """
        return self.precision in ("int8", "int16") or self.tolerance is not None

    @property
    def floating(self) -> Precision:
        """The floating-point type that the export computes in.

        Raises
        ------
        ExportError
            It computes in integers, which only C does.

        Examples
        --------
        >>> from kanserve.network.export_options import ExportOptions
        >>> ExportOptions(precision="float").floating
        'float'
        """
        if self.precision == "int8" or self.precision == "int16" or self.tolerance is not None:
            raise ExportError("Only C computes in integers: choose the format c_source, or double or float.")
        return self.precision

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            value, allowed = getattr(self, name), get_args(words)
            if not isinstance(value, str) or value not in allowed:
                raise InputError(f"The option {name} must be {' or '.join(map(repr, allowed))}, got {value!r:.80}.")
        share: object = self.tolerance
        if share is not None and not (isinstance(share, int | float) and 0 < share < 1):
            raise InputError(
                f"The option tolerance must be a share of the outputs' range, between 0 and 1, got {share!r:.80}."
            )
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise InputError(f"The option {name} must be of the type {kind.__name__}, got {value!r:.80}.")
