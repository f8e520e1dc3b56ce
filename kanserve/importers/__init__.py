"""Import networks that other libraries trained, from files or live models, without importing the library.

    checkpoint = read(path)                      # arrays by the library's names, and plain settings
    importer = the one whose `matches` is true   # by names and shapes alone
    conversion = importer.convert(checkpoint)    # a Kan that computes the same, and notes

What kanserve cannot represent raises CheckpointError with the place and the reason; nothing is approximated silently.
"""

from typing import Unpack

from kanserve.errors import InputError
from kanserve.importers.conversion import Conversion
from kanserve.importers.detection import LIBRARIES as LIBRARIES
from kanserve.importers.detection import Library as Library
from kanserve.importers.detection import Source, checkpoint_of
from kanserve.importers.detection import convert as convert
from kanserve.importers.detection import importer as importer
from kanserve.importers.import_options import BASES as BASES
from kanserve.importers.import_options import POLYNOMIALS as POLYNOMIALS
from kanserve.importers.import_options import SQUASHES as SQUASHES
from kanserve.importers.import_options import Choices
from kanserve.importers.import_options import check_options as check_options
from kanserve.network.kan import Kan


def from_checkpoint(source: Source, library: str = "", **options: Unpack[Choices]) -> Conversion:
    """The network that another library trained, with notes on what was left out, guessed or refitted.

    The other library is not needed. docs/from-pykan.md says what each library's import does and does not take.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        A file (of torch, .safetensors, .npz, or pykan's checkpoint), arrays or tensors by name (a state_dict), or the
        live model, which knows what its file lacks.
    library : optional
        "pykan", "efficient-kan", "fast-kan", "inkan", "jaxkan", "polynomial-kan", "fourier-kan" or "rational-kan". By
        default it is recognised by the names and shapes of the arrays.
    inputs, outputs : sequence of str, optional
        Names of the inputs and outputs.
    base : {"silu", "identity", "zero"}, optional
        The activation beside the splines, where it is not stored.
    denominator : float, optional
        The width of radial functions, where it is not stored: exp(-((x - centre)/denominator)²).
    tolerance : float, default=1e-6
        Where edges are refitted, the largest error of the outputs relative to the largest output, and of each edge
        relative to its largest value; above 0 and below 1.
    basis : str, optional
        The polynomials of a polynomial KAN, where the names of its arrays do not say: as in `from_polynomial_kan`.
    parameters : sequence of float, optional
        The constants of these polynomials: [a, b] of Jacobi's, [alpha] of Gegenbauer's and Laguerre's.
    squash : {"tanh", "clamp"}, optional
        How a polynomial KAN brings its inputs into [-1, 1]; tanh by default.

    Returns
    -------
    Conversion
        `kan`, `library`, `notes`, and in `refitted` whether the network is approximate, within the tolerance.

    Raises
    ------
    CheckpointError
        The checkpoint is damaged, of no known library, or has what kanserve cannot represent; the message has the
        place.
    InputError
        An option is unknown or out of range, or the source is something else.
    MissingDependencyError
        torch or pyyaml is not installed, which some files need.
    OSError
        A file cannot be opened.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> layer = {"grid": [[-3, -1, 1, 3]], "spline_weight": [[[-1, 1]]], "base_weight": [[0]]}
    >>> state = {f"layers.0.{name}": np.array(values, float) for name, values in layer.items()}
    >>> found = kanserve.from_checkpoint(state, inputs=["a"])
    >>> found.library, found.kan
    ('efficient-kan', Kan(1-1, 1 edges, inputs a))
    >>> found.notes
    ('The base activation is not stored: taken to be silu.',)
    """
    chosen = check_options(options)
    if library and library not in LIBRARIES:
        raise InputError(f"library is one of {', '.join(LIBRARIES)}; got {library!r}.")
    return convert(checkpoint_of(source), library, chosen)


def from_pykan(source: Source, **options: Unpack[Choices]) -> Kan:
    """The network of a pykan checkpoint, by the name passed to `saveckpt`, or of a live model.

    It reads what pykan 0.2 writes. A state_dict alone is enough if no edge has a named function and no node is a
    product; otherwise the settings are needed too.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        The checkpoint's name, such as "model/0.1", the arrays of a state_dict, or the live model.
    **options
        Those of `from_checkpoint`.

    Returns
    -------
    Kan
        The same network, with pykan's extrapolation (zero).

    Raises
    ------
    CheckpointError, InputError, MissingDependencyError, OSError
        As in `from_checkpoint`.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> state = {"act_fun.0.grid": [[-3, -1, 1, 3]], "act_fun.0.coef": [[[-1, 1]]], "act_fun.0.mask": [[1]]}
    >>> state |= {"act_fun.0.scale_base": [[0]], "act_fun.0.scale_sp": [[1]]}
    >>> state |= {"symbolic_fun.0.mask": [[0]], "symbolic_fun.0.affine": [[[1, 0, 1, 0]]]}
    >>> state |= {"subnode_scale_0": [1], "subnode_bias_0": [0], "node_scale_0": [1], "node_bias_0": [2]}
    >>> kan = kanserve.from_pykan({name: np.array(values, float) for name, values in state.items()})
    >>> kan([[0.5]]).tolist()
    [[2.5]]
    """
    return from_checkpoint(source, "pykan", **options).kan


def from_efficient_kan(source: Source, **options: Unpack[Choices]) -> Kan:
    """The network of efficient-kan's state_dict, its file, or a live model.

    The activation beside the splines is not in the file: it is silu unless `base` or a live model says otherwise.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        The file, the arrays of the state_dict, or the live model.
    **options
        Those of `from_checkpoint`.

    Returns
    -------
    Kan
        The same network, exactly.

    Raises
    ------
    CheckpointError, InputError, MissingDependencyError, OSError
        As in `from_checkpoint`.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> layer = {"grid": [[-3, -1, 1, 3]], "spline_weight": [[[-1, 1]]], "base_weight": [[0]]}
    >>> state = {f"layers.0.{name}": np.array(values, float) for name, values in layer.items()}
    >>> kanserve.from_efficient_kan(state)([[0.5]]).tolist()
    [[0.5]]
    """
    return from_checkpoint(source, "efficient-kan", **options).kan


def from_fast_kan(source: Source, **options: Unpack[Choices]) -> Kan:
    """The network of fast-kan's state_dict, its file, or a live model.

    Its Gaussians are refitted by splines, within `tolerance`. Neither their denominator nor the activation beside them
    is in the file: they are the distance of the centres and silu unless an option or a live model says otherwise.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        The file, the arrays of the state_dict, or the live model.
    **options
        Those of `from_checkpoint`.

    Returns
    -------
    Kan
        The network; its outputs differ by at most `tolerance`, relative to the largest.

    Raises
    ------
    CheckpointError, InputError, MissingDependencyError, OSError
        As in `from_checkpoint`.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> state = {"rbf.grid": np.array([-1.0, 0.0, 1.0]), "spline_linear.weight": np.array([[0.0, 1.0, 0.0]])}
    >>> kanserve.from_fast_kan(state)([[0.0], [1.0]]).round(3).tolist()  # exp(-x²)
    [[1.0], [0.368]]
    """
    return from_checkpoint(source, "fast-kan", **options).kan


def from_inkan(source: Source, **options: Unpack[Choices]) -> Kan:
    """The network of inkan's state_dict, its file, or a live model.

    The activation beside the splines is not in the file: it is silu unless `base` or a live model says otherwise.
    Surfaces of two inputs (`dim=2`) are refused.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        The file, the arrays of the state_dict, or the live model.
    **options
        Those of `from_checkpoint`.

    Returns
    -------
    Kan
        The same network; exactly, except that the file of a double model may give its grid with 7 digits only.

    Raises
    ------
    CheckpointError, InputError, MissingDependencyError, OSError
        As in `from_checkpoint`.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> layer = {"grid_starts": [-7, -5, -3, -1], "weight": [[-3, -1, 1, 3, 0]]}
    >>> state = {f"layers.0.{name}": np.array(values, float) for name, values in layer.items()}
    >>> kanserve.from_inkan(state)([[0.5]]).tolist()
    [[0.5]]
    """
    return from_checkpoint(source, "inkan", **options).kan


def from_jaxkan(source: Source, **options: Unpack[Choices]) -> Kan:
    """The network of jaxkan's arrays, their file, or a live model, of spline or radial layers.

    jaxkan writes no files: the head of kanserve/importers/jaxkan.py has the lines that do. The Gaussians of radial
    layers are refitted by splines, within `tolerance`.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        The .npz file that these lines write, its arrays, or the live model.
    **options
        Those of `from_checkpoint`.

    Returns
    -------
    Kan
        The same network: exactly for spline layers, within `tolerance` for radial ones.

    Raises
    ------
    CheckpointError, InputError, MissingDependencyError, OSError
        As in `from_checkpoint`.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> layer = {"grid": [[-3, -1, 1, 3]], "c_basis": [[[-1, 1]]]}
    >>> state = {f"layers.0.{name}": np.array(values, float) for name, values in layer.items()}
    >>> kanserve.from_jaxkan(state)([[0.5]]).tolist()
    [[0.5]]
    """
    return from_checkpoint(source, "jaxkan", **options).kan


def from_polynomial_kan(source: Source, **options: Unpack[Choices]) -> Kan:
    """The network of a KAN of polynomials of tanh(x), as ChebyKAN: from its state_dict, its file, or a live model.

    The arrays are called by the polynomials: cheby_coeffs, cheby2_coeffs, legendre_coeffs, hermite_coeffs,
    gegenbauer_coeffs, laguerre_coeffs and bessel_coeffs, each (inputs, nodes, degree + 1). An array of another name,
    such as jacobi_coeffs, needs `basis`. Each layer becomes two: tanh, then splines, exactly. Degrees go up to 12.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        The file, the arrays of the state_dict, or the live model.
    **options
        Those of `from_checkpoint`. `basis` is "chebyshev", "chebyshev2", "legendre", "hermite", "jacobi",
        "gegenbauer", "laguerre", "bessel", "fibonacci" or "lucas".

    Returns
    -------
    Kan
        The same network, up to rounding.

    Raises
    ------
    CheckpointError, InputError, MissingDependencyError, OSError
        As in `from_checkpoint`.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> state = {"cheby_coeffs": np.array([[[0.0, 0.0, 1.0]]])}  # 2·tanh(x)² - 1
    >>> kanserve.from_polynomial_kan(state)([[0.0], [20.0]]).round(9).tolist()
    [[-1.0], [1.0]]
    """
    return from_checkpoint(source, "polynomial-kan", **options).kan


def from_fourier_kan(source: Source, **options: Unpack[Choices]) -> Kan:
    """The network of FourierKAN's state_dict, its file, or a live model.

    Each layer becomes two: a node for each cos(k·x) and sin(k·x), then their sums, exactly.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        The file, the arrays of the state_dict, or the live model.
    **options
        Those of `from_checkpoint`.

    Returns
    -------
    Kan
        The same network, all of named functions.

    Raises
    ------
    CheckpointError, InputError, MissingDependencyError, OSError
        As in `from_checkpoint`.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> state = {"fouriercoeffs": np.array([[[[0.0]]], [[[2.0]]]])}  # 2·sin(x)
    >>> kanserve.from_fourier_kan(state)([[0.0], [np.pi / 2]]).tolist()
    [[0.0], [2.0]]
    """
    return from_checkpoint(source, "fourier-kan", **options).kan


def from_rational_kan(source: Source, **options: Unpack[Choices]) -> Kan:
    """The network of a group-rational KAN, as in KAT: from its state_dict, its file, or a live model.

    Each layer is P(x)/Q(x) of every input, then a linear layer: act1.weight_numerator, act1.weight_denominator,
    fc1.weight, fc1.bias, act2 and so on; Q is that of KAT's GPU kernels, 1 + Σ|b_k|·|x|^k. It becomes five here,
    exactly: powers, sums, quotients and sums.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        The file, the arrays of the state_dict, or the live model.
    **options
        Those of `from_checkpoint`.

    Returns
    -------
    Kan
        The same network, all of named functions and products.

    Raises
    ------
    CheckpointError, InputError, MissingDependencyError, OSError
        As in `from_checkpoint`.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> state = {"act1.weight_numerator": [[0, 1]], "act1.weight_denominator": [[1]], "fc1.weight": [[2]]}
    >>> kanserve.from_rational_kan({name: np.array(values, float) for name, values in state.items()})([[3.0]]).tolist()
    [[1.5]]
    """
    return from_checkpoint(source, "rational-kan", **options).kan
