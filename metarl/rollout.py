"""Playing episodes: `Rollout`, the record of them, and `Trials`, the source that collects them for training."""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from metarl.envs import Task, TaskDistribution
from metarl.learner import Learner, Metrics, State, Step, where
from metarl.networks import Distribution
from metarl.spaces import action_size

if TYPE_CHECKING:
    from metarl.envs import MetaVectorEnv

Watch = Callable[[int, np.ndarray, np.ndarray], None]
"""Called after each step with its index, reward (N,) and success (N,)."""

TASKS, RESETS, ACTIONS, SHUFFLE, WEIGHTS, EVALUATION = range(6)
"""Streams of random numbers."""


def generator(seed: int, stream: int, *where: int) -> np.random.Generator:
    """The stream (seed, stream, iteration, slot): independent of everything drawn elsewhere."""
    return np.random.default_rng(np.random.SeedSequence((seed, stream, *where)))


@dataclass(frozen=True)
class Rollout:
    """What happened in some episodes of every slot. T steps, N slots; tensors are (T, N, ...), on one device.

    Attributes:
        query: what the learner was asked, a `Step` of (T, N, ...).
        action: as sampled, before it was clipped to the action space; discrete: int64.
        log_prob: of the action, (T, N).
        reward, done, success: (T, N); done: the step ended an episode.
        terminated: (T, N) bool; the environment itself ended it, not the horizon.
        next_obs: (T, N, ...) the observation that the step led to, before any reset.
        episode: index of the episode within this rollout, (T, N) int64.
        step: index of the step within its episode, (T, N) int64.
        valid: (T, N) bool; False: the slot had finished its episodes and waited for the others.
        prediction: the distributions that the actions came from.
        states: the learner's state before each step, a list of length T.
        final: what the learner would be asked next, a `Step` of (N, ...).
    """

    query: Step
    action: Tensor
    log_prob: Tensor
    reward: Tensor
    done: Tensor
    success: Tensor
    terminated: Tensor
    next_obs: Tensor
    episode: Tensor
    step: Tensor
    valid: Tensor
    prediction: Distribution
    states: list[State]
    final: Step

    def by_episode(self, episodes: int) -> dict[str, np.ndarray]:
        """Return, success at any step and at the last step of each episode, each (episodes, N)."""
        n = self.reward.shape[1]
        out = {key: np.zeros((episodes, n)) for key in ("return", "success", "last_success")}
        episode, valid = self.episode.cpu().numpy(), self.valid.cpu().numpy()
        reward, success, done = (x.cpu().numpy() for x in (self.reward, self.success, self.done))
        for e in range(episodes):
            mine = valid & (episode == e)
            out["return"][e] = (reward * mine).sum(0, dtype=np.float64)
            out["success"][e] = (success & mine).any(0)
            out["last_success"][e] = (success & done & mine).any(0)
        return out


def joined(rollouts: Sequence[Rollout]) -> Rollout:
    """Rollouts of the same slots that follow each other, as one."""
    if len(rollouts) == 1:
        return rollouts[0]
    fields: dict[str, Any] = {
        name: torch.cat([getattr(rollout, name) for rollout in rollouts])
        for name in ("action", "log_prob", "reward", "done", "success", "terminated", "next_obs", "step", "valid")
    }
    before = 0
    episodes = []
    for rollout in rollouts:
        episodes.append(rollout.episode + before)
        before += int(rollout.episode[rollout.valid].max()) + 1
    return Rollout(
        query=Step(*(torch.cat(parts) for parts in zip(*(rollout.query for rollout in rollouts)))),
        prediction=type(rollouts[0].prediction).cat([rollout.prediction for rollout in rollouts]),  # type: ignore[misc]
        episode=torch.cat(episodes), states=[state for rollout in rollouts for state in rollout.states],
        final=rollouts[-1].final, **fields,
    )  # fmt: skip


def nothing_before(env: "MetaVectorEnv") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Previous action, reward and done at the start of a trial: zeros."""
    n = env.num_envs
    return (
        np.zeros((n, action_size(env.single_action_space)), np.float32),
        np.zeros(n, np.float32),
        np.zeros(n, np.float32),
    )


def draw_noise(space: gymnasium.Space[Any], generators: list[np.random.Generator], steps: int) -> np.ndarray:
    """Noise to sample actions with, (steps, slots, entries) float32: normal for a Box, uniform for Discrete."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return np.stack([g.random((steps, 1), np.float32) for g in generators], 1)
    return np.stack([g.standard_normal((steps, action_size(space)), np.float32) for g in generators], 1)


def within(space: gymnasium.Space[Any], chosen: np.ndarray) -> np.ndarray:
    """Actions (N, ...) as the environment takes them: clipped to its Box, in its dtype; its own numbers of discrete ones."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return chosen + space.start
    assert isinstance(space, gymnasium.spaces.Box)
    return np.clip(chosen, space.low, space.high).astype(space.dtype, copy=False)


@torch.no_grad()
def play(
    env: "MetaVectorEnv", learner: Learner, state: State, obs: np.ndarray, previous: tuple[np.ndarray, np.ndarray, np.ndarray],
    *, episodes: int, noise: np.ndarray | None, device: torch.device, keep_states: bool = False,
    watch: Watch | None = None,
) -> tuple[Rollout, State, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:  # fmt: skip
    """Play whole episodes in every slot.

    A learner with a method `meet` is shown the environment first; the scripted expert is the one that needs it.

    Args:
        env: just reset, or at the border of an episode.
        learner, state: what acts, and what it knows.
        obs: (N, ...) the current observations.
        previous: action, reward and done of the step before, see `nothing_before`.
        episodes: how many.
        noise: (episodes * horizon, N, entries) to sample actions with; None: the distribution's mode.
        device: where the learner's tensors are.
        keep_states: keep the learner's state before each step.
        watch: see `Watch`.

    Returns:
        The rollout; the learner's state, the observations and `previous` after it.
    """
    if hasattr(learner, "meet"):
        learner.meet(env)
    space, n, limit = env.single_action_space, env.num_envs, episodes * env.horizon
    discrete = isinstance(space, gymnasium.spaces.Discrete)
    record: dict[str, list[np.ndarray]] = {
        key: [] for key in ("obs", "previous_action", "previous_reward", "previous_done", "action", "reward", "done", "success",
                            "terminated", "next_obs", "episode", "step", "valid")
    }  # fmt: skip
    predictions: list[Any] = []
    states: list[State] = []
    noise_tensor = None if noise is None else torch.from_numpy(noise).to(device)
    previous_action, previous_reward, previous_done = previous
    episode, step, active = np.zeros(n, np.int64), np.zeros(n, np.int64), np.ones(n, bool)
    seen = obs.astype(np.float32)
    for t in range(limit):
        query = Step(*(torch.from_numpy(x).to(device) for x in (seen, previous_action, previous_reward, previous_done)))
        if keep_states:
            states.append(state)
        prediction, new_state = learner.predict(state, query)
        state = new_state if active.all() else where(torch.from_numpy(active).to(device), new_state, state)
        action = prediction.mode if noise_tensor is None else prediction.sample(noise_tensor[t])
        predictions.append(prediction)
        chosen = action.cpu().numpy()
        executed = within(space, chosen)
        obs, reward, terminated, truncated, info = env.step(executed)
        done, success = terminated | truncated, info["success"]
        reached = obs.astype(np.float32)
        following = reached
        if done.any():
            following = reached.copy()
            for slot in np.flatnonzero(done):
                following[slot] = info["final_obs"][slot]
        row = (
            seen,
            previous_action,
            previous_reward,
            previous_done,
            chosen,
            reward,
            done,
            success,
            terminated,
            following,
            episode,
            step,
            active,
        )
        for key, value in zip(record, row):
            record[key].append(value)
        if watch is not None:
            watch(t, reward, success)
        seen = reached
        taken = chosen[:, None] == np.arange(space.n) if discrete else executed  # type: ignore[attr-defined]
        previous_action = taken.astype(np.float32, copy=False)
        previous_reward, previous_done = reward.astype(np.float32), done.astype(np.float32)
        episode, step = episode + done, np.where(done, 0, step + 1)
        active = active & (episode < episodes)
        if not active.any():
            break

    def tensor(key: str) -> Tensor:
        array = np.stack(record[key])
        return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array).to(device)

    previous = previous_action, previous_reward, previous_done
    final = Step(*(torch.from_numpy(x).to(device) for x in (seen, *previous)))
    query = Step(*(tensor(key) for key in Step._fields))
    fields = {key: tensor(key) for key in list(record)[4:]}
    stacked = type(predictions[0]).stack(predictions)
    log_prob = stacked.log_prob(fields["action"])
    rollout = Rollout(query=query, log_prob=log_prob, prediction=stacked, states=states, final=final, **fields)
    return rollout, state, obs, previous


class Played(NamedTuple):
    """An episode of a trial, in every slot.

    Attributes:
        support: the trial's own.
        branch: the same by mean actions, then dropped.
        adapted: how often `adapt` had changed the learner's state before.
    """

    support: Rollout
    branch: Rollout | None
    adapted: int


def play_trial(
    env: "MetaVectorEnv", learner: Learner, tasks: Sequence[Task], generators: list[np.random.Generator], *, episodes: int,
    adapt_every: int, resets: Callable[[int], int], device: torch.device, branch: Callable[[int], bool] = lambda e: False,
    watch: Callable[[int, bool], Watch | None] = lambda e, branch: None, keep_states: bool = False,
) -> Generator[Played, None, State]:  # fmt: skip
    """Play a trial in every slot, episode by episode, as evaluation and pictures see it.

    The generator's return value is what the learner knows in the end.

    Args:
        env: as many slots as there are tasks.
        learner: what adapts: while it plays (RL²), and by `adapt` after every `adapt_every` episodes.
        tasks: one a slot.
        generators: of each slot's actions.
        episodes: of the trial.
        adapt_every: episodes of experience that `adapt` is given at a time.
        resets: seed of the reset before each episode.
        device: where the learner's tensors are.
        branch: before which episodes a copy of the learner also plays one by its mean actions.
        watch: what watches an episode, or its branch: see `play`.
        keep_states: see `play`.
    """
    state, previous = learner.begin(len(tasks)), nothing_before(env)
    supports: list[Rollout] = []
    adapted = 0
    for e in range(episodes):
        branched = None
        for mean in (True, False) if branch(e) else (False,):
            env.set_tasks(tasks)
            obs, _ = env.reset(seed=resets(e))
            noise = None if mean else draw_noise(env.single_action_space, generators, env.horizon)
            rollout, after, _, then = play(
                env, learner, state, obs, previous, episodes=1, noise=noise, device=device, keep_states=keep_states,
                watch=watch(e, mean),
            )  # fmt: skip
            branched = rollout if mean else branched
        yield Played(rollout, branched, adapted)
        state, previous = after, then
        supports.append(rollout)
        if len(supports) == adapt_every:
            before = state
            with torch.no_grad():
                state, supports = learner.adapt(state, joined(supports)), []
            adapted += state is not before
    return state


class Trials:
    """The source for robots: an iteration is one trial in every slot, on freshly drawn tasks; a phase of it `episodes` long.

    Where the environment draws a task for every episode (`resample="episode"`), an iteration's reset draws the first ones.

    Args:
        env: where to play; its horizon is the length of an episode.
        tasks: what to draw tasks from.
        episodes: episodes of a phase.
        seed: the run's seed.
        device: where the learner's tensors are.

    Attributes:
        num_tasks: tasks an iteration, one a slot.
        progress: called with the share (0 to 1) of the current collection that is done.
    """

    def __init__(self, env: "MetaVectorEnv", tasks: TaskDistribution, episodes: int, seed: int, device: torch.device) -> None:
        self.env, self.tasks, self.episodes, self.seed, self.device = env, tasks, episodes, seed, device
        self.num_tasks = env.num_envs
        self.progress: Callable[[float], None] = lambda share: None

    def begin(self, iteration: int) -> None:
        """Draw a task a slot and reset."""
        self.iteration = iteration
        self._steps, self._seconds = 0, 0.0
        self._played: list[dict[str, np.ndarray]] = []
        if self.env.resample == "never":
            self.env.set_tasks(self.tasks.sample(self.num_tasks, generator(self.seed, TASKS, iteration)))
        seed = int(generator(self.seed, RESETS, iteration).integers(2**31))
        self.obs, _ = self.env.reset(seed=seed)
        self.previous = nothing_before(self.env)

    def collect(self, learner: Learner, state: State, phase: int) -> tuple[Rollout, State]:
        """Play `episodes` episodes with sampled actions."""
        steps = self.episodes * self.env.horizon
        generators = [generator(self.seed, ACTIONS, self.iteration, phase, slot) for slot in range(self.num_tasks)]
        noise = draw_noise(self.env.single_action_space, generators, steps)

        def watch(t: int, reward: np.ndarray, success: np.ndarray) -> None:
            if t % 50 == 0:
                self.progress(t / steps)

        began = time.perf_counter()
        rollout, state, self.obs, self.previous = play(
            self.env, learner, state, self.obs, self.previous, episodes=self.episodes, noise=noise, device=self.device,
            keep_states=True, watch=watch,
        )  # fmt: skip
        self.record(int(rollout.valid.sum()), time.perf_counter() - began, rollout.by_episode(self.episodes))
        return rollout, state

    def record(self, steps: int, seconds: float, played: dict[str, np.ndarray]) -> None:
        """Take note of what was played: `collect` does, and agents that step `env` in a loop of their own.

        Args:
            steps: of all slots.
            seconds: that they took.
            played: see `Rollout.by_episode`.
        """
        self._steps += steps
        self._seconds += seconds
        self._played.append(played)

    def report(self) -> Metrics:
        """What the iteration's episodes were like: means over all of them, the first and the last of the trial; steps."""
        found = {key: np.concatenate([played[key] for played in self._played]) for key in self._played[0]}
        names = {"return": "return"} | (
            {"success": "success", "last_success": "last_step_success"} if self.tasks.success else {}
        )
        means = {name: float(found[key].mean()) for key, name in names.items()}
        for key in ("success", "return"):
            if key in names:
                means |= {
                    f"{key}_first_episode": float(found[key][0].mean()),
                    f"{key}_last_episode": float(found[key][-1].mean()),
                }
        return means | {"steps": self._steps, "collect_seconds": self._seconds}
