"""The MLflow flavour: networks and artifacts logged, loaded again with the same bits, and served by MLflow.

    import kanserve.mlflow

    with mlflow.start_run():
        logged = kanserve.mlflow.log_model(kan, name="houses")
    kanserve.mlflow.load_model(logged.model_uri).predict(x)     # a LoadedModel
    mlflow.pyfunc.load_model(logged.model_uri).predict(frame)   # columns by name, as `mlflow models serve` does

What is logged is the artifact of `kanserve.compile`, file by file: its checksums are verified again at each load, so a
download that is not whole is refused. Like any published model it holds code; load only what you trust.
"""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kanserve.artifact import directory
from kanserve.artifact.format import Artifact
from kanserve.artifact.signing import Verifier
from kanserve.artifact_compiler import compile as compile_kan
from kanserve.errors import FormatError, InputError, MissingDependencyError
from kanserve.network.kan import Kan, Variable
from kanserve.runtime.model import LoadedModel, read_artifact
from kanserve.runtime.pyfunc_model import PyfuncModel as PyfuncModel

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.models.model import ModelInfo
    from pandas import DataFrame

FLAVOR_NAME = "kanserve"
_FOLDER = "artifact"

Model = "Kan | Artifact | LoadedModel | str | os.PathLike[str] | Any"
"""A network, what `kanserve.compile` or `kanserve.load_model` made, a fitted estimator, or the path of a version."""


def save_model(
    model: Any,
    path: str | os.PathLike[str],
    *,
    mlflow_model: Any = None,
    signature: "ModelSignature | None" = None,
    input_example: Any = None,
    pip_requirements: Sequence[str] | str | None = None,
    extra_pip_requirements: Sequence[str] | str | None = None,
    conda_env: Mapping[str, Any] | str | None = None,
    code_paths: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Save a model as a folder in MLflow's format.

    Parameters
    ----------
    model : Kan, Artifact, LoadedModel, estimator, str or path
        A network or a fitted `KANRegressor` or `KANClassifier`, which are compiled to C, ONNX and NumPy; or what
        `kanserve.compile` or `kanserve.load_model` made; or the folder or URL of a published model.
    path : str or path
        A new folder.
    signature : ModelSignature, optional
        By default the model's own: a column for each input (text for categories, optional where a value may be
        missing) and for each output.
    input_example : DataFrame or array_like, optional
        By default a row of the model's test vectors.
    mlflow_model, pip_requirements, extra_pip_requirements, conda_env, code_paths, metadata
        As any flavour of MLflow takes them. By default the environment is this version of kanserve and of MLflow.

    Raises
    ------
    MissingDependencyError
        MLflow is not installed: `pip install 'kanserve[mlflow]'`.
    InputError
        `model` is something else.

    Examples
    --------
    >>> import kanserve.mlflow, tempfile
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> folder = tempfile.mkdtemp() + "/line"
    >>> kanserve.mlflow.save_model(kan, folder)
    >>> kanserve.mlflow.load_model(folder).predict([[0.5]]).tolist()
    [[2.0]]
    """
    pyfunc = _mlflow().pyfunc
    from mlflow.models import Model as MlflowModel

    artifact = _artifact(model)
    described = MlflowModel() if mlflow_model is None else mlflow_model
    described.add_flavor(
        FLAVOR_NAME, kanserve_version=_version(), data=f"data/{_FOLDER}", backends=list(artifact.backends)
    )
    if pip_requirements is None and conda_env is None:
        pip_requirements = default_pip_requirements()
    with tempfile.TemporaryDirectory() as temporary:
        directory.write(Path(temporary, _FOLDER), artifact)
        pyfunc.save_model(
            path=os.fspath(path),
            loader_module=__name__,
            data_path=str(Path(temporary, _FOLDER)),
            mlflow_model=described,
            signature=signature_of(artifact) if signature is None else signature,
            input_example=example_of(artifact) if input_example is None else input_example,
            pip_requirements=pip_requirements,
            extra_pip_requirements=extra_pip_requirements,
            conda_env=conda_env,
            code_paths=code_paths,
            metadata=metadata,
        )


def log_model(
    model: Any, name: str = "model", *, registered_model_name: str | None = None, **options: Any
) -> "ModelInfo":
    """Log a model to the current run of MLflow, and register it if a name is given.

    Parameters
    ----------
    model : Kan, Artifact, LoadedModel, estimator, str or path
        As `save_model` takes it.
    name : str, default="model"
        The name of the logged model.
    registered_model_name : str, optional
        The model of MLflow's registry that gets a new version.
    **options
        As `save_model` takes them.

    Returns
    -------
    ModelInfo
        MLflow's own, with `model_uri`.

    Raises
    ------
    MissingDependencyError
        MLflow is not installed.
    InputError
        `model` cannot be logged.

    Examples
    --------
    >>> import kanserve.mlflow, mlflow  # doctest: +SKIP
    >>> logged = kanserve.mlflow.log_model(kan, name="houses", registered_model_name="houses")  # doctest: +SKIP
    >>> kanserve.mlflow.load_model("models:/houses/1").predict(x)  # doctest: +SKIP
    """
    _mlflow()
    from mlflow.models import Model as MlflowModel

    artifact = _artifact(model)  # before a run begins
    logged: ModelInfo = MlflowModel.log(
        name=name,
        artifact_path=None,
        flavor=sys.modules[__name__],
        registered_model_name=registered_model_name,
        model=artifact,
        **options,
    )
    return logged


def load_model(
    model_uri: str,
    dst_path: str | None = None,
    *,
    backend: str | None = None,
    threads: int = 1,
    trusted: Verifier | None = None,
) -> LoadedModel:
    """Load a model that was saved or logged in this flavour.

    Parameters
    ----------
    model_uri : str
        As MLflow has them: "models:/houses/1", "runs:/ID/model", or a path.
    dst_path : str, optional
        An existing folder to download into; by default a temporary one.
    backend, threads, trusted
        As `kanserve.load_model` takes them. A signature must be one for every name and number.

    Returns
    -------
    LoadedModel
        With `predict(x)`, `kan`, `formulas` and `manifest`.

    Raises
    ------
    ArtifactError
        A file is damaged or missing, or a signature is missing or wrong.
    InputError
        The model was saved in another flavour.
    MissingDependencyError
        MLflow is not installed.

    Examples
    --------
    >>> import kanserve.mlflow  # doctest: +SKIP
    >>> model = kanserve.mlflow.load_model("models:/houses/1")  # doctest: +SKIP
    """
    artifacts = _mlflow().artifacts
    from mlflow.models import Model as MlflowModel

    folder = artifacts.download_artifacts(artifact_uri=os.fspath(model_uri), dst_path=dst_path)
    flavors = MlflowModel.load(folder).flavors
    if FLAVOR_NAME not in flavors:
        raise InputError(f"{model_uri!r} has the flavours {', '.join(sorted(flavors))}, and not kanserve.")
    return LoadedModel(_read(Path(folder, flavors[FLAVOR_NAME]["data"]), trusted), backend, threads)


def signature_of(artifact: Artifact) -> "ModelSignature":
    """MLflow's signature of a model: its inputs by name, and its outputs.

    Parameters
    ----------
    artifact : Artifact
        As `kanserve.compile` makes it.

    Returns
    -------
    ModelSignature
        Doubles, and text for categories; a classifier's output is the label, with the parameter `probabilities`.

    Examples
    --------
    >>> import kanserve.mlflow
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.mlflow.signature_of(kanserve.compile(kan, ["numpy_source"])).inputs.input_names()
    ['x']
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    def column(variable: Variable) -> Any:
        kind = DataType.string if variable.categories else DataType.double
        return ColSpec(kind, variable.name, required=variable.fill_value is None)

    manifest = artifact.manifest
    inputs: list[Any] = [column(variable) for variable in manifest.inputs]
    outputs: list[Any] = [ColSpec(DataType.double, variable.name) for variable in manifest.outputs]
    if not manifest.classes:
        return ModelSignature(Schema(inputs), Schema(outputs))
    return ModelSignature(
        Schema(inputs),
        Schema([ColSpec(DataType.string, "label")]),
        ParamSchema([ParamSpec("probabilities", DataType.boolean, False)]),
    )


def example_of(artifact: Artifact) -> "DataFrame":
    """A row that the model can answer.

    Parameters
    ----------
    artifact : Artifact
        As `kanserve.compile` makes it.

    Returns
    -------
    DataFrame
        The first of its golden rows, by the names of its inputs.

    Examples
    --------
    >>> import kanserve.mlflow
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> list(kanserve.mlflow.example_of(kanserve.compile(kan, ["numpy_source"])))
    ['x']
    """
    import pandas as pd

    def show(variable: Variable, value: float) -> float | str:
        return variable.categories[int(value)] if variable.categories else value

    first = artifact.golden()[0][0].tolist()
    return pd.DataFrame(
        [
            {
                variable.name: show(variable, value)
                for variable, value in zip(artifact.manifest.inputs, first, strict=True)
            }
        ]
    )


def default_pip_requirements() -> list[str]:
    """What an environment that runs a logged model needs.

    Returns
    -------
    list of str
        Requirements of pip: this version of kanserve and of MLflow, and pandas.

    Raises
    ------
    MissingDependencyError
        MLflow is not installed.

    Examples
    --------
    >>> import kanserve.mlflow
    >>> kanserve.mlflow.default_pip_requirements()[-1]
    'pandas'
    """
    return [f"kanserve=={_version()}", f"mlflow-skinny=={_mlflow().__version__}", "pandas"]


def _load_pyfunc(path: str) -> PyfuncModel:
    """Entry point for `mlflow.pyfunc`: load the model in a folder."""
    return PyfuncModel(LoadedModel(_read(Path(path), None)))


def _artifact(model: Any) -> Artifact:
    """The artifact to log for a model in any of its forms."""
    if isinstance(model, str | os.PathLike):
        return read_artifact(model)
    model = getattr(model, "kan_", model)
    if isinstance(model, Kan):
        return compile_kan(model)
    if isinstance(model, LoadedModel):
        return model.artifact
    if isinstance(model, Artifact):
        return model
    raise InputError(
        "MLflow logs a Kan, a fitted estimator, what kanserve.compile or kanserve.load_model made, or the path of a "
        f"published model; got {type(model).__name__}."
    )


def _read(folder: Path, trusted: Verifier | None) -> Artifact:
    if not folder.is_dir():
        raise FormatError("The logged model has lost its files: the folder with the artifact is missing.")
    return directory.read(folder, trusted)


def _version() -> str:
    from kanserve import __version__

    return __version__


def _mlflow() -> Any:
    """The package mlflow. Raises MissingDependencyError without it."""
    try:
        import mlflow.artifacts
        import mlflow.pyfunc
    except ImportError:
        raise MissingDependencyError("mlflow", "mlflow") from None
    return mlflow
