"""Run directories: configuration, metrics, checkpoints, evaluations."""
