"""Retrieval: how well a search by embedding finds what belongs together."""
