"""The ground floor of edgeproof: recipes, errors, run directories. Imports nothing above it, and no torch."""

__version__ = "0.1.0"
