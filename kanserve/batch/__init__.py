"""Batch inference: a published model on arrays, tables, DataFrames and files that are larger than memory. A
`BatchPredictor` pickles, so that Dask, Ray, Spark and joblib can send it to workers."""

from kanserve.batch.dataframe_engines import polars_expression, register_duckdb
from kanserve.batch.predictor import BatchPredictor
from kanserve.batch.table_streams import FilePredictions, predict_file, predict_reader

__all__ = [
    "BatchPredictor",
    "FilePredictions",
    "polars_expression",
    "predict_file",
    "predict_reader",
    "register_duckdb",
]
