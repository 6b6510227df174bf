"""Few-shot learners: agents trained on data sets."""
