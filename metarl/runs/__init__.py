"""Run directories: configuration, metrics, checkpoints and evaluations."""
