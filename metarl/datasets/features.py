"""Constants of text features, shared by data sets and networks."""

BUCKETS = 2**15
"""Exclusive upper bound of text feature ids; id 0 is padding."""
TEXTS = ("text", "vector")
"""Kinds of examples that are texts."""
