"""Evaluation: protocols, intervals, tables and plots."""
