"""Engines that step the slots of a `MetaVectorEnv`: native (compiled) and python (reference)."""
