"""Images that lie in tar shards: found, indexed once, then read at their offset like files."""
