"""Classifiers on frozen embeddings, one file a kind."""
