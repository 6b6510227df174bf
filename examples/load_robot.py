"""Load a trained RL² agent with `metarl.load` and run it on a stock Meta-World environment.

python examples/load_robot.py RUN
"""

import sys

import metaworld
import torch

import metarl
from metarl.learner import PolicyInput


@torch.no_grad()
def main(run: str, episodes: int = 10, steps: int = 500) -> None:
    """Play a trial on a goal unseen in training; the agent adapts from episode to episode."""
    agent, tasks = metarl.load(run, device="cpu"), metaworld.ML1("reach-v3", seed=1)
    env = tasks.test_classes["reach-v3"]()
    env.set_task(tasks.test_tasks[0])
    state, action, reward, done = agent.initial_state(1), torch.zeros(1, 4), torch.zeros(1), torch.zeros(1)
    for episode in range(episodes):
        obs, succeeded = env.reset()[0], False
        for step in range(steps):
            observation = torch.tensor(obs, dtype=torch.float32)[None]
            prediction, state = agent.predict(state, PolicyInput(observation, action, reward, done))
            action = prediction.sample(torch.randn(1, 4)).clamp(-1, 1)
            obs, reward_value, _, _, info = env.step(action[0].numpy())
            reward, done = torch.tensor([reward_value]).float(), torch.tensor([float(step == steps - 1)])
            succeeded = succeeded or info["success"] > 0
        print(f"episode {episode + 1}: {'success' if succeeded else 'no success'}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
