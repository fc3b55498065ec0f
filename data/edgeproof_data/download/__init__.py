"""Fetching images from lists of addresses: answers are bounded, checked and logged, owners may refuse."""
