"""Tables of samples, and the data sets that come with the package."""
