"""Training: the set-up of an experiment, and the training loop."""
