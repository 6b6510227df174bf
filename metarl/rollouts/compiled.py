"""Play whole episodes by compiled code, the policy included: each environment plays on without waiting for the others."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from metarl.errors import UserError, unknown
from metarl.learner import Learner, PolicyInput, State
from metarl.nn.distributions import Gaussian
from metarl.nn.program import Program
from metarl.rollouts.rollout import Rollout
from metarl.rollouts.storage import Storage

if TYPE_CHECKING:
    from metarl.envs import MetaVectorEnv
    from metarl.envs.engines.episodes import Policy

ACTING = {
    "auto": "compiled where the engine and the agent's policy allow it, else python",
    "compiled": "the policy runs in compiled code beside the native engine",
    "python": "the policy runs in torch, all environments step together: the reference",
}


def program_or_reason(env: "MetaVectorEnv", learner: Learner, state: State) -> Program | str:
    """The learner's policy for compiled acting in these environments, or why there is none."""
    if env.engine.name != "native":
        return f"the engine is {env.engine.name}, not native"
    if env.metadata["autoreset_mode"] is not AutoresetMode.SAME_STEP or env.engine.all_info:  # type: ignore[attr-defined]
        return "the environment was made with autoreset='next_step' or info='full'"
    program: Program | None = learner.program(state) if hasattr(learner, "program") else None
    return program or f"{type(learner).__name__} has no compiled form"


def compiled_program(env: "MetaVectorEnv", learner: Learner, state: State, acting: str) -> Program | None:
    """The learner's policy for compiled acting; None: it acts in Python.

    Raises:
        UserError: `acting` is unknown, or compiled although there is no compiled form, or weights are not finite.
    """
    if acting not in ACTING:
        raise unknown("acting", acting, ACTING)
    if acting == "python":
        return None
    program = program_or_reason(env, learner, state)
    if isinstance(program, str):
        if acting == "compiled":
            raise UserError(f"acting cannot be compiled: {program}; --acting auto or python can")
        return None
    if not np.isfinite(program.weights).all():
        raise UserError("the policy's weights are not finite: it cannot act")
    return program


def play_compiled(
    env: "MetaVectorEnv",
    program: Program,
    state: State,
    storage: Storage,
    *,
    noise: np.ndarray | None,
    every: int,
    progress: Any,
    camera: Any,
) -> tuple[Rollout, State]:
    """See `metarl.rollouts.playing.play`."""
    from metarl.envs.engines.episodes import Episodes

    engine: Any = env.engine
    n, limit, seen = env.num_envs, storage.limit, storage.seen
    policy = _with_registers(program, state, n)
    storage.action = np.zeros((limit, n, seen.action.shape[2]), np.float32)
    mean = np.zeros_like(storage.action)
    log_std = np.zeros_like(storage.action if program.log_std is None else storage.action[:0])
    frame_of = np.full(limit, -1)
    times = sorted(t for t in (camera.times if camera else ()) if t < limit)
    frame_of[times] = np.arange(len(times))
    played = Episodes(
        control=np.zeros(3, np.int64),
        busy=np.zeros(n, bool),
        left=np.zeros(n),
        costs=np.zeros(n),
        until=storage.episodes,
        max_steps=env.max_episode_steps,
        ends_with_success=env.terminate_on_success,
        noise=np.zeros_like(mean[:0]) if noise is None else noise,
        time=np.zeros(n, np.int64),
        obs=seen.obs,
        action=seen.action,
        reward=seen.reward,
        done_before=seen.done,
        sampled=storage.action,
        mean=mean,
        log_std=log_std,
        done=storage.done,
        success=storage.success,
        terminated=storage.terminated,
        valid=storage.valid,
        episode=storage.episode,
        step=storage.step,
        ends=np.full((storage.episodes, n), -1),
        end_obs=np.zeros((storage.episodes, *seen.obs.shape[1:]), np.float32),
        every=every,
        memories=np.zeros((-(-limit // every) if every else 0, n, policy.memory_size), np.float32),
        frame_of=frame_of,
        frames=np.zeros((len(times), n, engine.state_size() if times else 0)),
    )
    env.play_episodes(policy, played, progress)
    storage.steps = int(played.time.max())
    episode, env_ids = np.nonzero(played.ends >= 0)
    steps = played.ends[episode, env_ids]
    order = np.lexsort((env_ids, steps))
    storage.ends = np.stack([steps, env_ids], 1)[order].tolist()
    storage.end_obs = list(played.end_obs[episode, env_ids][order])
    for row, t in enumerate(times):
        if t < storage.steps:
            camera.take(t, engine.scenes_of(played.frames[row]))

    def memory(rows: np.ndarray) -> dict[str, torch.Tensor]:
        first = policy.memory_first
        return {
            name: torch.from_numpy(rows[:, at - first : at - first + size].copy()).to(storage.device)
            for name, (at, size) in program.memory.items()
        }

    spread = torch.from_numpy(log_std[: storage.steps] if program.log_std is None else program.log_std).to(storage.device)
    means = storage.tensor(mean)
    whole = slice(policy.memory_first, policy.memory_first + policy.memory_size)
    after = {**state, **memory(policy.registers[:, whole])} if program.memory else state
    states = [
        memory(rows) if program.memory else state for rows in played.memories[: -(-storage.steps // every) if every else 0]
    ]
    everyone = np.arange(n)
    final = PolicyInput(*(torch.from_numpy(rows[played.time, everyone]).to(storage.device) for rows in seen))
    return storage.rollout(Gaussian(means, spread.expand_as(means)), states, final), after


def _with_registers(program: Program, state: State, num_envs: int) -> "Policy":
    """The program with each environment's registers, which hold the learner's memory."""
    from metarl.envs.engines.episodes import Policy

    registers = np.zeros((num_envs, program.registers), np.float32)
    for name, (first, size) in program.memory.items():
        registers[:, first : first + size] = state[name].cpu().numpy()
    first = min((first for first, _ in program.memory.values()), default=0)
    end = max((first + size for first, size in program.memory.values()), default=0)
    low, high = program.log_std_bounds
    return Policy(
        operations=program.operations,
        weights=program.weights,
        center=program.center,
        unit=program.unit,
        clamp=np.float32(program.clamp),
        observed=program.observed,
        with_previous=program.with_previous,
        out=program.out,
        registers=registers,
        std=np.zeros((0, 4), np.float32) if program.log_std is None else np.exp(program.log_std),
        low=low,
        high=high,
        memory_first=first,
        memory_size=end - first,
    )
