"""Students, one file a kind: config and model, registered."""
