"""Few-shot learners: agents that learn from data sets."""
