"""A custom agent in one file: policy gradients for a recurrent policy whose memory lasts through the trial, as in RL².

metarl train examples/my_agent.py:MyAgent ml1:reach-v3
metarl train examples/my_agent.py:MyAgent examples/point_robot.py:point_robot
metarl evaluate RUN --agent examples/my_agent.py:MyAgent
"""

from dataclasses import dataclass
from functools import cached_property

import torch

from metarl.learner import Agent, NonFiniteError
from metarl.nn.policies import RecurrentPolicy
from metarl.optim.advantages import discounted_returns


@dataclass(frozen=True)
class Settings:
    """Settings, each an option of `metarl train`; all need defaults."""

    hidden: int = 64
    """Size of the hidden state."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    gamma: float = 0.9
    """Discount."""
    entropy: float = 1e-3
    """Weight of the entropy bonus."""
    updates: int = 8
    """Adam steps per iteration, all on the same trials."""
    clip: float = 0.2
    """Change of an action's probability ratio beyond which the objective no longer improves."""


class MyAgent(Agent):
    """A recurrent policy trained by clipped policy gradients; it adapts through its hidden state."""

    Settings = Settings
    options = {"episodes_per_trial": 4}  # noqa: RUF012 - what differs from the defaults of `metarl train`

    def __init__(self, settings, observation_space, action_space, scale, *, seed, device, total_iterations):
        self.settings, self.device = settings, device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.policy = RecurrentPolicy(
                observation_space,
                action_space,
                scale,
                layers=(64,),
                hidden=settings.hidden,
                std=0.7,
                state_std=False,
                min_std=0.05,
            ).to(device)

    @cached_property
    def optimizer(self):
        """Created at first use; `moments` and `load_moments` of `Agent` save and restore its state."""
        return torch.optim.Adam(self.policy.parameters(), self.settings.learning_rate)

    def initial_state(self, num_tasks):
        """Return the state before any experience: a zero hidden state for every task."""
        return {"hidden": torch.zeros(num_tasks, self.settings.hidden, device=self.device)}

    def predict(self, state, query):
        """Step all tasks: return a distribution over actions and the next hidden state. `adapt` need not do anything."""
        prediction, hidden = self.policy.step(self.policy.scaler(query), state["hidden"])
        return prediction, {"hidden": hidden}

    def update(self, batches, iteration):
        """Learn from a rollout of whole trials with tensors (time, task, ...)."""
        (rollout,), s = batches, self.settings
        valid = rollout.valid  # False where a task has finished its episodes and waits for the others
        reward = torch.where(valid, rollout.reward, 0.0).double()
        # The return includes later episodes of the trial, so that exploration is rewarded by what it makes possible.
        returns = discounted_returns(reward, s.gamma).float()
        count = valid.sum(1, keepdim=True).clamp(min=1)
        advantage = returns - (returns * valid).sum(1, keepdim=True) / count  # relative to the mean over tasks at this time
        advantage = advantage / (advantage[valid].std() + 1e-8)
        x, start = self.policy.scaler(rollout.query), self.initial_state(valid.shape[1])["hidden"]
        for _ in range(s.updates):
            prediction = self.policy.sequence(x, start)
            ratio = (prediction.log_prob(rollout.action) - rollout.log_prob).exp()
            gain = torch.minimum(ratio * advantage, ratio.clamp(1 - s.clip, 1 + s.clip) * advantage)
            entropy = prediction.entropy()[valid].mean()
            loss = -gain[valid].mean() - s.entropy * entropy
            if not torch.isfinite(loss):
                raise NonFiniteError("the loss is not finite", {"advantage": advantage})
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
            self.optimizer.step()
        self.policy.scaler.observe(rollout.query.obs[valid], rollout.reward[valid])
        return {"loss": float(loss.detach()), "entropy": float(entropy.detach())}

    def state_dict(self):
        """Return all state needed to resume."""
        return {"policy": self.policy.state_dict(), "optimizer": self.moments()}

    def load_state_dict(self, state):
        """Restore the result of `state_dict`."""
        self.policy.load_state_dict(state["policy"])
        self.load_moments(state.get("optimizer", {}))
