"""Trained agents for use elsewhere: loading, packing, export, predictions."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "predict":  # imported late: a report uses this package and must not import torch
        from metarl.sharing.few_shot_prediction import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
