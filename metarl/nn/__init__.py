"""Networks: policies, distributions over actions, scaling of inputs."""
