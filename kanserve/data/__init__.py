"""Tables of samples, and the data sets that come with the package."""

from kanserve.data.dataset import Dataset
from kanserve.data.number_texts import TableWarning
from kanserve.data.table_files import read_table

__all__ = ["Dataset", "TableWarning", "read_table"]
