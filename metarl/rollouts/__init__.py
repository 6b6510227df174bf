"""Collect experience: play episodes and trials in the environments and record them as a `Rollout`."""

from metarl.rollouts.random_streams import generator
from metarl.rollouts.rollout import Rollout
from metarl.rollouts.trials import Trials, play_trial

__all__ = ["Rollout", "Trials", "generator", "play_trial"]
