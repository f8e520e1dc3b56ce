"""Equal ideas have equal names: each parameter of a public call is a term of this vocabulary."""

import pytest

from docs._sphinx.public_calls import parameter_table, parameters, public_calls
from kanserve.network.parameter_names import SYNONYMS
from tests.support.paths import DOCS
from tests.support.public_api import commands

# A name that a new parameter needs is added here, with its meaning, after a look whether the idea has a name already.
TERMS = {
    "X": "rows of inputs, of the estimators",
    "a": "of c·f(a·x + b) + d; or one of two networks",
    "address": "host:port or unix:path of a server",
    "affine": "a, b, c and d of the edges of a layer",
    "all_edges": "whether every edge gets a named function",
    "arity": "how many subnodes a node multiplies",
    "artifact": "the result of compile, where a network will not do",
    "ax": "matplotlib's Axes to draw on",
    "b": "of c·f(a·x + b) + d; or the other of two networks",
    "backend": "what runs a model: one of its formats",
    "base": "the function beside each spline",
    "base_weight": "the weights of the base of a layer",
    "batch": "rows of a step of Adam",
    "c": "of c·f(a·x + b) + d; or a function in C",
    "candidates": "formulas or functions that compete",
    "card": "whether the model card is written",
    "categories": "the categories of the inputs, by name",
    "cells": "of a spreadsheet, by the names of inputs",
    "certificate": "of a client, a PEM file",
    "channels": "connections of a client",
    "checkpoint": "the file from which a killed call resumes",
    "class_weight": "weights of the classes, of the estimators",
    "classes": "the names of the classes",
    "coefficients": "of the splines of a layer",
    "columns": "names of columns, or columns by name",
    "complexity": "of a function; or the penalty for a unit of it",
    "connection": "of DuckDB",
    "curve_points": "points of a served edge's curve",
    "d": "of c·f(a·x + b) + d",
    "data": "samples: a Dataset, (x, y) or a DataFrame with target; rows of inputs where no targets are needed",
    "decimal": "the mark before the decimals of a file's numbers",
    "derivative": "of a registered function",
    "device": "torch's",
    "digits": "digits of numbers in texts",
    "domain": "of a registered function",
    "draws": "random draws of an estimate",
    "dtype": "of numbers",
    "edge": "the name of an edge",
    "edges": "names of edges",
    "entropy": "the strength of a penalty",
    "extrapolation": "how a curve goes on outside its range",
    "facts": "of a formula, as a file has them",
    "findings": "the result of find_formulas",
    "fits": "functions drawn beside an edge",
    "fixed": "constants that stay",
    "folder": "a folder that is written",
    "format": "one of the formats",
    "formats": "what is written of a model: kinds of files, or of texts",
    "formula": "one formula",
    "formulas": "several",
    "function": "a function of one variable by its name",
    "functions": "several",
    "gradient": "whether derivatives are added",
    "grid": "the number of intervals of the splines, or several",
    "grid_range": "the range of a torch layer's splines",
    "height": "of a widget, in pixels",
    "held_out": "whether a session keeps rows for judging",
    "hessian": "whether second derivatives are added",
    "hidden": "the nodes of the hidden layers",
    "history": "of a session, or events",
    "i": "the number of an input",
    "in_features": "torch's word for inputs",
    "include_libraries": "whether compiled libraries come too",
    "index": "the place of a formula",
    "inputs": "names of inputs",
    "interval": "the level of the interval columns to add",
    "intervals": "whether to fit for prediction intervals too",
    "j": "the number of an output",
    "jumps": "the strength of a penalty",
    "kan": "a network",
    "kans": "networks",
    "keep": "which columns of a table are kept",
    "key": "a private key, or its file",
    "kind": "which of several kinds, as of pictures or of a table's target",
    "knots": "of the splines of a layer",
    "l1": "the strength of a penalty",
    "language": "of a formula as source",
    "layer": "the number of a layer, or a layer",
    "layers": "several",
    "learning_rate": "of LBFGS and Adam",
    "level": "the probability of an interval",
    "measured": "what was measured where a server predicted",
    "library": "the one that wrote a checkpoint",
    "limit": "the most characters of a formula",
    "loss": "what is minimised",
    "manifest": "of an artifact",
    "max_complexity": "that no formula may exceed",
    "max_fits": "the limit of fits",
    "metadata": "headers of each call",
    "model": "a model that predicts: a path, a URL, an artifact or a network",
    "monotonic_cst": "scikit-learn's word for the signs of monotone inputs",
    "most": "the most rows",
    "most_edges": "the most edges",
    "n_jobs": "worker processes",
    "n_networks": "networks that are averaged",
    "name": "of a model, an output, a function or a file",
    "named": "whether constants are named",
    "names": "several",
    "nested_constraints": "functions that may not be nested",
    "network": "a network as a torch module",
    "new": "a new name",
    "node": "the number of a node",
    "node_bias": "of a layer",
    "node_scale": "of a layer",
    "noise_free": "whether the targets are exact",
    "numpy": "a function of arrays",
    "of": "what is renamed",
    "old": "an old name",
    "older_than": "seconds",
    "optimizer": "lm, lbfgs or adam",
    "options": "further options, of one format or file system",
    "order": "the degree of the splines; or the order of derivatives",
    "out": "a file that is written",
    "out_features": "torch's word for outputs",
    "output": "the number or name of an output",
    "outputs": "names of outputs",
    "outside": "whether a column says which rows are outside the range",
    "parameters": "the values of constants in a formula",
    "path": "a file, or a model in a repository",
    "paths": "several",
    "patience": "steps of small gains before the end",
    "pipeline": "scikit-learn's",
    "place": "where an artifact is, for messages and signatures",
    "points": "how many points a curve has",
    "power": "of the Tweedie loss",
    "precision": "double or float",
    "predictor": "a BatchPredictor",
    "prefix": "of the names of new columns",
    "processors": "other processors to build for",
    "progress": "whether, or to which callable, a call says how far it is",
    "provenance": "notes for people",
    "proximal": "the strength of a penalty",
    "quantile": "of the quantile loss",
    "random_state": "the seed, of the estimators",
    "ranges": "the range of each input",
    "redone": "whether a step was undone before",
    "refit": "iterations of the refit after an edit",
    "repository": "a folder or URL of published models",
    "residual": "of a differential equation",
    "residuals": "several",
    "retries": "of a call to a server",
    "ridge": "the strength of a penalty",
    "row": "the number of a row",
    "rows": "positions of rows, or their number",
    "sample_weight": "weights of the rows, of the estimators",
    "scale": "the expected size of u",
    "screen": "whether inputs that tell nothing are left out",
    "search": "more arguments of find_formulas",
    "seconds": "the limit of time",
    "seed": "equal seeds give equal results",
    "selection": "how the best formula is chosen",
    "server_name": "that a certificate must have",
    "shape": "the nodes of each layer",
    "share": "of the rows",
    "shares": "whether the shares of the signal are computed",
    "signature": "of an artifact",
    "smooth": "the strength of the smoothing",
    "source": "a checkpoint, a file or a table to read",
    "spellings": "of a function in languages",
    "start": "formulas to start from",
    "starts": "how many random starts",
    "state": "of a torch module",
    "step": "of a session",
    "steps": "the most iterations",
    "stream": "of Arrow",
    "strict": "whether a formula that is not finite is refused",
    "subnode_bias": "of a layer",
    "subnode_scale": "of a layer",
    "symbolic": "whether the network becomes a formula",
    "sympy": "a function of sympy",
    "table": "of Arrow; or the name of a table",
    "tables": "splines as tables",
    "target": "the column to learn",
    "template": "the form of a law",
    "text": "JSON",
    "theme": "the colours of a picture",
    "threads": "of one process",
    "timeout": "seconds that a call to a server may take",
    "tls": "how a client trusts a server",
    "token": "of a client",
    "told": "is called with each change of a session",
    "tolerance": "what a simpler network may cost; how exact a property, or an export, must be",
    "top": "how many suggestions",
    "tree": "a formula as an expression tree",
    "trusted": "public keys, or whose signatures count",
    "units": "of inputs and output",
    "unknown": "what an encoder does with unknown categories",
    "validation": "the share of rows to hold out, or other rows",
    "values": "numbers of each row",
    "version": "of a model",
    "weights": "weights of the rows",
    "width": "of a picture",
    "x": "rows of inputs",
    "y": "targets",
}
# These are terms, and other libraries use them for other ideas too.
OF_TWO_IDEAS = {"artifact", "intervals", "kan", "layers", "random_state", "seed", "weights", "width"}
# Options of the command line that no Python call has: files, access to servers, how results are shown.
OPTIONS = {
    *(
        "alias",
        "allow_host",
        "anywhere",
        "as",
        "autosave",
        "browser",
        "check",
        "classify",
        "data",
        "folds",
        "force",
        "formula_only",
        "from",
    ),
    *(
        "hold_out",
        "input",
        "json",
        "keep_all",
        "keep_serving",
        "no_autosave",
        "no_browser",
        "no_card",
        "no_classify",
        "no_strict",
    ),
    *("note", "parameter", "pareto", "pick", "port", "quiet", "server", "sign", "tls_ca", "tls_certificate", "tls_key"),
    *("to", "token_file", "verify", "output", "of"),
}
# Of ExportOptions, of the readers of checkpoints, and of one kind of importer.
OF_FORMATS = {"basis", "c_form", "denominator", "ir_version", "onnx_form", "opset", "squash", "vector_math"}
OUR_CALLS = [name for name in public_calls() if not name.startswith("kanserve.mlflow.")]  # MLflow has its own words


@pytest.mark.parametrize("name", OUR_CALLS)
def test_each_parameter_is_a_term(name: str) -> None:
    assert [one.name for one in parameters(public_calls()[name]) if one.name not in TERMS] == []


def test_each_term_is_used_and_no_word_of_other_libraries_is_a_term() -> None:
    used = {one.name for name in OUR_CALLS for one in parameters(public_calls()[name])}
    assert TERMS.keys() - used - {"categories"} == set()
    others = {other for same in SYNONYMS.values() for other in same}
    assert others & TERMS.keys() == OF_TWO_IDEAS
    assert {"rng", "verbose", "report", "jobs", "workers", "exporters", "backends"} <= others
    assert SYNONYMS.keys() <= TERMS.keys()


def test_the_seed_is_random_state_in_estimators_and_seed_everywhere_else() -> None:
    estimators = [name for name in OUR_CALLS if name.split(".")[1] in ("KANRegressor", "KANClassifier")]
    for name in OUR_CALLS:
        wrong = {"seed", "data", "weights"} if name in estimators else {"random_state", "sample_weight", "X"}
        assert not wrong & {one.name for one in parameters(public_calls()[name])}, name


@pytest.mark.parametrize("command", [name for name in commands() if name != "serve"])
def test_an_option_of_the_command_line_has_the_name_of_the_parameter(command: str) -> None:
    words = [option[2:].replace("-", "_") for option in commands()[command] if option.startswith("--")]
    assert [word for word in words if word not in TERMS.keys() | OPTIONS | OF_FORMATS] == []


def test_the_page_lists_every_call_with_its_parameters() -> None:
    rows = "\n".join(parameter_table())
    assert "<!-- made of the public calls -->" in (DOCS / "reference" / "parameters.md").read_text("utf-8")
    assert "| {py:obj}`kanserve.create` | `shape`, [`grid`], [`order`], [`base`], [`seed`], [`arity`] |" in rows
    assert all(f"`{name}`" in rows for name in public_calls())
