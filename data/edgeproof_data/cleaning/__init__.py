"""Taking out of a set of images what would harm training or falsify its test; no file is touched."""
