"""Wraps any `Learner` as an agent for Meta-World's own evaluation (`metaworld.evaluation.MetaLearningAgent`).

Meta-World adapts with `adapt_action` (here: sampled, as in training), `step` and `adapt`, and then measures with
`eval_action` (here: the deterministic action). Before each measured episode the learner returns to its state after
adaptation, so that every measured episode follows the same experience.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.envs import MetaVectorEnv
from metarl.learner import Learner, PolicyInput, State, where
from metarl.rollouts.playing import draw_noise
from metarl.rollouts.random_streams import EVALUATION, generator
from metarl.rollouts.rollout import Rollout
from metarl.rollouts.storage import first_input

REWARD, DONE = -2, -1
"""Columns at the end of `RNNBasedMetaRLWrapper`'s observations, which append action, reward and done."""
ADDED = 6
"""Number of entries it appends: Meta-World's actions have 4."""


class UpstreamAgent:
    """A learner with Meta-World's agent interface; its observations end with the last action, reward and done.

    Args:
        learner: the learner to evaluate; it is not changed.
        env: gives the number of environments and their spaces; passed to learners that have a method `bind_env`.
        seed: of the sampled actions; each (evaluation, environment) has its own random stream.
        device: where the learner's tensors are.
        max_episode_steps: steps per episode.
        episodes: episodes per call of `adapt`.
        progress: called at each step with the environment steps so far, of all environments together.
    """

    def __init__(
        self,
        learner: Learner,
        env: MetaVectorEnv | Any,
        *,
        seed: int,
        device: torch.device,
        max_episode_steps: int,
        episodes: int,
        progress: Callable[[int], None] = lambda steps: None,
    ) -> None:
        self.learner, self.env, self.seed, self.device = learner, env, seed, device
        self.max_episode_steps, self.episodes, self.progress = max_episode_steps, episodes, progress
        self.evaluations, self.steps = 0, 0
        self.state: State = None
        self.adapted: tuple[State, tuple[Tensor, ...]] | None = None

    def init(self) -> None:
        """Forget the previous tasks; Meta-World calls this after it drew new ones."""
        n = self.env.num_envs
        if hasattr(self.learner, "bind_env"):
            self.learner.bind_env(self.env)
        self.generators = [generator(self.seed, EVALUATION, self.evaluations, env_id) for env_id in range(n)]
        self.evaluations += 1
        self.state, self.previous = self.learner.initial_state(n), self._tensors(*first_input(self.env, np.empty(0))[1:])
        self._forget()

    def _forget(self) -> None:
        """Clear the record of the support."""
        self.noise: Tensor | None = None
        self.queries: list[PolicyInput] = []
        self.predictions: list[Any] = []
        self.actions: list[Tensor] = []
        self.rewards: list[Tensor] = []
        self.dones: list[Tensor] = []
        self.terminated: list[Tensor] = []

    def _tensors(self, *arrays: np.ndarray) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device) for array in arrays)

    def _count(self, steps: int) -> None:
        self.steps += steps
        self.progress(self.steps)

    def _query(self, observations: np.ndarray) -> PolicyInput:
        return PolicyInput(*self._tensors(observations[:, :-ADDED]), *self.previous)

    def _executed(self, action: Tensor) -> np.ndarray:
        space = self.env.single_action_space
        executed: np.ndarray = np.clip(action.cpu().numpy(), space.low, space.high)  # type: ignore[union-attr]
        return executed

    @torch.no_grad()
    def adapt_action(self, observations: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """A sampled action for each environment, (N, 4) float32, during adaptation."""
        if self.noise is None:
            drawn = draw_noise(self.env.single_action_space, self.generators, self.episodes * self.max_episode_steps)
            self.noise = torch.from_numpy(drawn).to(self.device)
        query = self._query(observations)
        prediction, self.state = self.learner.predict(self.state, query)
        action = prediction.sample(self.noise[len(self.queries)])
        self.queries.append(query)
        self.predictions.append(prediction)
        self.actions.append(action)
        self._count(len(action))
        return self._executed(action), {}

    def step(self, timestep: Any) -> None:
        """Record the outcome of the actions, a `metaworld.evaluation.Timestep`."""
        done = timestep.terminated | timestep.truncated
        self.previous = self._tensors(timestep.action, timestep.reward, done)
        self.rewards.append(self.previous[1])
        self.dones.append(torch.from_numpy(done).to(self.device))
        self.terminated.append(torch.from_numpy(timestep.terminated).to(self.device))

    @torch.no_grad()
    def adapt(self) -> None:
        """Adapt the learner to the episodes since `init` or the last `adapt`."""
        rollout = self._rollout()
        self.state = self.learner.adapt(self.state, rollout)
        self.adapted = None  # the next `reset` stores the new state
        self._forget()

    def _rollout(self) -> Rollout:
        done = torch.stack(self.dones)
        ended = done.long()
        episode = ended.cumsum(0) - ended
        index = torch.arange(len(done), device=self.device)[:, None].expand_as(done)
        # index within the episode: steps since the previous episode ended
        start = torch.where(done, index + 1, 0).cummax(0).values.roll(1, 0)
        start[0] = 0
        action, prediction = torch.stack(self.actions), type(self.predictions[0]).stack(self.predictions)
        query = PolicyInput(*(torch.stack(parts) for parts in zip(*self.queries)))
        # Meta-World hides an episode's last observation from agents; the one before replaces it.
        # Meta-World does not report success to agents; adaptation uses rewards only.
        return Rollout(
            query=query,
            action=action,
            log_prob=prediction.log_prob(action),
            reward=torch.stack(self.rewards),
            done=done,
            success=torch.zeros_like(done),
            terminated=torch.stack(self.terminated),
            ends=(done.nonzero(), query.obs[done]),
            episode=episode,
            step=index - start,
            valid=episode < self.episodes,
            prediction=prediction,
            states=[],
            final=PolicyInput(self.queries[-1].obs, *self.previous),
        )

    def reset(self, env_mask: np.ndarray) -> None:
        """Return environments whose measured episode ended, or is about to begin, to their state after adaptation."""
        if self.adapted is None:
            self.adapted = self.state, self.previous
        if env_mask.any():
            mask = torch.from_numpy(env_mask).to(self.device)
            self.state, self.previous = where(mask, self.adapted, (self.state, self.previous))
        self.fresh = env_mask.copy()

    @torch.no_grad()
    def eval_action(self, observations: np.ndarray) -> np.ndarray:
        """The deterministic action for each environment, (N, 4) float32."""
        going = torch.from_numpy(~self.fresh).to(self.device)
        action, reward, done = self.previous
        seen_reward, seen_done = self._tensors(observations[:, REWARD], observations[:, DONE])
        # after an episode's first step, the observation is Meta-World's only way to report the reward
        self.previous = action, torch.where(going, seen_reward, reward), torch.where(going, seen_done, done)
        prediction, self.state = self.learner.predict(self.state, self._query(observations))
        executed = self._executed(prediction.mode)
        self.previous = (*self._tensors(executed), *self.previous[1:])
        self._count(len(executed))
        return executed
