"""One file an engine: a class with a `Config` beside it, registered under the engine's name."""
