"""Packed teacher embeddings on disk: one key, memory-mapped rows, many writers, never half done."""

from edgeproof_data.cache.key import CacheKey, StaleCacheError
from edgeproof_data.cache.reader import EmbeddingCache
from edgeproof_data.cache.row_format import TopK, TopKRows
from edgeproof_data.cache.writer import CacheWriter

__all__ = ["CacheKey", "CacheWriter", "EmbeddingCache", "StaleCacheError", "TopK", "TopKRows"]
