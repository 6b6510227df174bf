"""MAML-TRPO and its relatives."""
