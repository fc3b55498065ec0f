"""The kinds of data source, one module each."""
