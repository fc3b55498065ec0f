"""The front door of edgeproof: the command line and `ship`."""
