"""Sparsity and INT8 as further stages of the same task; nothing stands here yet."""
