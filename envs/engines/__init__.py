"""The engines that step environments."""
