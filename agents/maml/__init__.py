"""MAML-TRPO, ProMP, Reptile and multi-task PPO/TRPO: agents with one policy and an optional inner gradient step."""
