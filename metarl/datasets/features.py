"""Features of texts, which data sets and networks must agree on."""

BUCKETS = 2**15
"""Feature ids of texts are below this; 0 stands for nothing."""
TEXTS = ("text", "vector")
"""Kinds of examples that are texts."""
