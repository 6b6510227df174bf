"""Use trained agents elsewhere: load, pack, export and predict."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "predict":  # late: reports use this package and must not import torch
        from metarl.sharing.few_shot_prediction import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
