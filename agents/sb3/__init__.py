"""PPO and SAC of stable-baselines3 as metarl agents."""
