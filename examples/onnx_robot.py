"""Run an exported RL² agent on a stock Meta-World environment, with only onnxruntime, numpy and metaworld.

metarl export RUN --out agent.onnx && python examples/onnx_robot.py agent.onnx
"""

import sys

import metaworld
import numpy as np
import onnxruntime


def main(path: str, episodes: int = 10, steps: int = 500) -> None:
    """Play a trial on a goal unseen in training; the agent adapts from episode to episode."""
    agent, rng, tasks = onnxruntime.InferenceSession(path), np.random.default_rng(0), metaworld.ML1("reach-v3", seed=1)
    env = tasks.test_classes["reach-v3"]()
    env.set_task(tasks.test_tasks[0])
    feed = {tensor.name: np.zeros([1, *tensor.shape[1:]], np.float32) for tensor in agent.get_inputs()}
    for episode in range(episodes):
        feed["obs"][0], succeeded = env.reset()[0], False
        for step in range(steps):
            mean, std, feed["hidden"] = agent.run(None, feed)
            feed["previous_action"] = np.clip(rng.normal(mean, std), -1, 1).astype(np.float32)
            feed["obs"][0], feed["previous_reward"][0], _, _, info = env.step(feed["previous_action"][0])
            feed["previous_done"][0], succeeded = step == steps - 1, succeeded or info["success"] > 0
        print(f"episode {episode + 1}: {'success' if succeeded else 'no success'}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
