"""Evaluation protocols, their statistics and files, and the tables and plots that show the results."""
