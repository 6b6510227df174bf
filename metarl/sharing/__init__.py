"""Trained agents for use elsewhere: loading, packing, export, predictions."""
