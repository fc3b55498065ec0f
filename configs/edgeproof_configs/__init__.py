"""The ground floor of edgeproof: recipes, errors, run directories. Imports no other edgeproof package and no torch."""

__version__ = "0.1.0"
