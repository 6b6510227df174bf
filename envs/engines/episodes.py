"""Compiled loop that plays whole episodes in every environment, the policy's forward pass included, without the interpreter.

Threads take turns: each takes the environment with the most work left that no other thread plays, plays a slice of its
episodes, and puts it back. Results do not depend on the number of threads.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from metarl.envs.engines.kernel import (
    BAD_QPOS,
    DATA,
    MEMORY,
    MODEL,
    WARNING_SIZE,
    advance,
    numbers,
)
from metarl.envs.tasks.primitives import NOW_SIZE, OUT_SIZE
from metarl.nn.acting import run_program, scaled
from metarl.system.jit import call_with_state, jit, try_lock, unlock, write_int

F32 = np.float32
SLICE = 50
"""Steps that a thread plays before it gives the environment back."""
LOCK, STOP, NOT_FINITE = range(3)
"""Entries of `Episodes.control`: a lock; 1 asks the threads to stop; 1 + the environment whose action is not finite."""
ACTIONS = 4


class Policy(NamedTuple):
    """A `metarl.nn.program.Program` for compiled code, with registers for every environment.

    Attributes:
        operations, weights, center, unit, clamp: see `Program`.
        observed, with_previous, out: see `Program`.
        registers: (num_envs, registers) float32.
        std: (S, 4) float32; (0, 4): it depends on the state.
        low, high: bounds of the logarithm of a std that depends on the state.
        memory_first, memory_size: the registers that persist.
    """

    operations: np.ndarray
    weights: np.ndarray
    center: np.ndarray
    unit: np.ndarray
    clamp: np.float32
    observed: int
    with_previous: bool
    out: int
    registers: np.ndarray
    std: np.ndarray
    low: float
    high: float
    memory_first: int
    memory_size: int


class Starts(NamedTuple):
    """Each environment's start of an episode, to which it returns at the episode's end.

    Attributes:
        states: (num_envs,) addresses of MuJoCo's states.
        spec: which parts of the state they contain.
        memory: (num_envs, size) see `Snapshot.memory`.
        previous: (num_envs, 18) see `Snapshot.previous`.
        obs: (num_envs, entries) the first observation, float32, task id included.
    """

    states: np.ndarray
    spec: int
    memory: np.ndarray
    previous: np.ndarray
    obs: np.ndarray


class Episodes(NamedTuple):
    """What is played, and the arrays that record it; T steps at most, N environments.

    Attributes:
        control: (3,) int64, see `LOCK` and following.
        busy: (N,) bool: a thread plays the environment.
        left: (N,) estimate of the work left; 0: done.
        costs: (N,) estimate of the work of a step.
        until: episodes after which an environment is done.
        max_steps: steps after which an episode is cut off.
        ends_with_success: whether success ends an episode.
        noise: (T, N, 4) float32; (0, N, 4): act by the mean.
        time: (N,) steps played so far.
        obs, action, reward, done_before: (T + 1, N, ...) float32: row t is the policy's input before step t.
        sampled, mean, log_std: (T, N, 4) float32: the action before it is clipped, and its distribution; log_std (0, N, 4)
            if it does not depend on the state.
        done, success, terminated, valid: (T, N) bool.
        episode, step: (T + 1, N) int64: index of the episode, and of the step within it.
        ends: (episodes, N) the last step of each episode; -1: none yet.
        end_obs: (episodes, N, entries) float32: the observation after that step.
        every: record the memory before every k-th step, for this k; 0: never.
        memories: (rows, N, memory) float32.
        frame_of: (T,) row of `frames` in which the simulator's state after this step is recorded; -1: it is not.
        frames: (rows, N, size) float64.
    """

    control: np.ndarray
    busy: np.ndarray
    left: np.ndarray
    costs: np.ndarray
    until: int
    max_steps: int
    ends_with_success: bool
    noise: np.ndarray
    time: np.ndarray
    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    done_before: np.ndarray
    sampled: np.ndarray
    mean: np.ndarray
    log_std: np.ndarray
    done: np.ndarray
    success: np.ndarray
    terminated: np.ndarray
    valid: np.ndarray
    episode: np.ndarray
    step: np.ndarray
    ends: np.ndarray
    end_obs: np.ndarray
    every: int
    memories: np.ndarray
    frame_of: np.ndarray
    frames: np.ndarray


@jit
def take(played, finished):
    """Give an environment back (-1: none) and return the one with the most work left that no thread plays; -1: none."""
    address = played.control.ctypes.data + 8 * LOCK
    while not try_lock(address):
        pass
    if finished >= 0:
        played.busy[finished] = False
    chosen, most = -1, 0.0
    for env_id in range(len(played.busy)):
        if not played.busy[env_id] and played.left[env_id] > most:
            chosen, most = env_id, played.left[env_id]
    if chosen >= 0:
        played.busy[chosen] = True
    unlock(address)
    return chosen


@jit
def restart(sim, starts, env_id):
    """Put an environment at the start of its episode, as `NativeEngine.reset` does."""
    row = sim.addresses[env_id]
    call_with_state(sim.mj_set_state, row[MODEL], row[DATA], starts.states[env_id], starts.spec)
    memory = numbers(row, MEMORY, 0, starts.memory.shape[1])
    for i in range(starts.memory.shape[1]):
        memory[i] = starts.memory[env_id, i]
    sim.previous[env_id] = starts.previous[env_id]


@jit
def act(policy, played, t, env_id, action):
    """Run the policy, record the distribution, and write the clipped action; False: the action is not finite."""
    registers = policy.registers[env_id]
    n = policy.observed
    for i in range(n):
        registers[i] = scaled(played.obs[t, env_id, i], policy.center[i], policy.unit[i], policy.clamp)
    if policy.with_previous:
        for i in range(ACTIONS):
            registers[n + i] = played.action[t, env_id, i]
        n += ACTIONS
        registers[n] = scaled(played.reward[t, env_id], policy.center[n], policy.unit[n], policy.clamp)
        registers[n + 1] = played.done_before[t, env_id]
    which = env_id if len(policy.weights) > 1 else 0
    run_program(policy.operations, policy.weights[which], registers)
    for i in range(ACTIONS):
        mean = registers[policy.out + i]
        value = mean
        if len(played.log_std) > 0:
            log_std = F32(min(max(registers[policy.out + ACTIONS + i], policy.low), policy.high))
            played.log_std[t, env_id, i] = log_std
            if len(played.noise) > 0:
                value = mean + np.exp(log_std) * played.noise[t, env_id, i]
        elif len(played.noise) > 0:
            value = mean + policy.std[which, i] * played.noise[t, env_id, i]
        played.mean[t, env_id, i] = mean
        played.sampled[t, env_id, i] = value
        action[i] = min(max(value, F32(-1)), F32(1))
        if not abs(value) < F32(np.inf):
            return False
    return True


@jit
def play_step(sim, policy, starts, played, env_id, action, obs, now, out):
    """Play one step of an environment and, if it ends the episode, return to the episode's start; False: stop."""
    t = played.time[env_id]
    if played.every > 0 and t % played.every == 0:
        first = policy.memory_first
        played.memories[t // played.every, env_id] = policy.registers[env_id, first : first + policy.memory_size]
    if not act(policy, played, t, env_id, action):
        played.control[NOT_FINITE] = 1 + env_id
        return False
    unstable = advance(sim, env_id, action, obs, now, out)
    success = out[1] != 0.0
    episode, step = played.episode[t, env_id], played.step[t, env_id] + 1
    terminated = success and played.ends_with_success
    done = terminated or unstable or step >= played.max_steps
    played.valid[t, env_id], played.success[t, env_id] = True, success
    played.terminated[t, env_id], played.done[t, env_id] = terminated, done
    for i in range(ACTIONS):
        played.action[t + 1, env_id, i] = action[i]
    played.reward[t + 1, env_id] = F32(out[0])
    played.done_before[t + 1, env_id] = F32(done)
    row = sim.addresses[env_id]
    frame = played.frame_of[t]
    if frame >= 0:
        target = played.frames[frame, env_id].ctypes.data
        call_with_state(sim.mj_get_state, row[MODEL], row[DATA], target, starts.spec)
    following = played.obs[t + 1, env_id]
    for i in range(len(following)):
        following[i] = F32(obs[i]) if i < len(obs) else starts.obs[env_id, i]
    if done:
        played.ends[episode, env_id] = t
        played.end_obs[episode, env_id] = following
        if unstable:
            for i in range(3):
                write_int(row[DATA] + sim.offsets[BAD_QPOS] + i * sim.offsets[WARNING_SIZE], 0)
        restart(sim, starts, env_id)
        following[:] = starts.obs[env_id]
        episode, step = episode + 1, 0
    played.episode[t + 1, env_id], played.step[t + 1, env_id] = episode, step
    played.time[env_id] = t + 1
    steps_left = (played.until - episode) * played.max_steps - step
    played.left[env_id] = played.costs[env_id] * steps_left
    return steps_left > 0


@partial(jit, what="the loop that plays whole trials")
def play_episodes(sim, policy, starts, played):
    """Play environments until all have finished, or until asked to stop; run it in as many threads as there are cores."""
    now, out, obs, action = np.zeros(NOW_SIZE), np.zeros(OUT_SIZE), np.zeros(39), np.zeros(ACTIONS, np.float32)
    env_id = take(played, -1)
    while env_id >= 0:
        for _ in range(SLICE):
            if played.control[STOP] or not play_step(sim, policy, starts, played, env_id, action, obs, now, out):
                break
        if played.control[STOP] or played.control[NOT_FINITE]:
            return
        env_id = take(played, env_id)
