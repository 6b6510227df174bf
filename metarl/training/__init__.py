"""Training: its options, the set-up from a configuration, and the training loop."""
