"""Data sets going out as tables and shards, and coming in from what other tools write."""
