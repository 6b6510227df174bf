"""Training: options, set-up, and the one loop."""
