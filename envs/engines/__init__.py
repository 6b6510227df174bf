"""Engines that step the environments of a `MetaVectorEnv`: native (compiled) and python (reference)."""
