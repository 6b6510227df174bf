"""Networks of the few-shot learners: shared encoders, and the networks that MAML adapts with one set of weights per task."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.datasets.features import BUCKETS, TEXTS
from metarl.errors import UserError

EMBEDDING = "embedding.weight"
"""The parameter of a `TaskNetwork` that all tasks share: one copy per task would be too large."""


class Kind(NamedTuple):
    """The kind of examples and predictions.

    Attributes:
        name: image, text (feature ids), vector (texts embedded by a sentence encoder) or regression.
        shape: shape of an example.
        outputs: size of a prediction: the number of classes, or 1 for regression.
    """

    name: str
    shape: tuple[int, ...]
    outputs: int

    @property
    def measure(self) -> str:
        """The score of predictions: mse or accuracy."""
        return "mse" if self.name == "regression" else "accuracy"


def encoder(kind: Kind, channels: int, bfloat16: Collection[str] = ()) -> "nn.Module":
    """A network from examples (n, *shape) to features (n, output_size), not for MAML; bfloat16: see `PooledConv`."""
    if kind.name == "image":
        return PooledConv(kind.shape, channels, bfloat16)
    if kind.name in TEXTS:
        return TextEncoder(kind, channels)
    return Layers([kind.shape[0], channels, channels])


class PooledConv(nn.Module):
    """Four blocks of 3 x 3 convolution, batch normalisation, ReLU and 2 x 2 pooling (Vinyals et al. 2016, section 4.1.1).

    ReLU follows the pooling, which gives the same numbers with a quarter of the work.

    In training, whole batches of episodes are normalised together. Outside training the statistics of `measure_statistics`
    are used, so that queries do not affect each other.

    Args:
        shape: (channels, height, width) of an image.
        channels: channels of each block.
        bfloat16: types of devices that compute in bfloat16 when gradients are enabled.
    """

    def __init__(self, shape: Sequence[int], channels: int, bfloat16: Collection[str] = ()) -> None:
        super().__init__()
        if min(shape[1:]) < 16:
            raise UserError(f"four poolings leave nothing of {min(shape[1:])} pixels: --image-size must be at least 16")
        self.bfloat16_devices = bfloat16
        sizes = [shape[0], *[channels] * 4]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.MaxPool2d(2), nn.ReLU())
                for i, o in pairwise(sizes)
            )
        )
        self.output_size = channels * (shape[1] // 16) * (shape[2] // 16)
        for norm in _norms(self):
            norm.track_running_stats = False  # parallel shards must not write to shared statistics

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) to (n, output_size)."""
        use_bfloat16 = x.device.type in self.bfloat16_devices and self.training and torch.is_grad_enabled()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=use_bfloat16):
            features = self.blocks(x)
        return features.flatten(1).float()


def _norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


def measure_statistics(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of batch normalisation to their means over these batches."""
    from torch.optim.swa_utils import update_bn  # imports torch's compiler: two seconds

    norms = _norms(net)
    if norms:
        for norm in norms:
            norm.track_running_stats = True
        update_bn(batches, net)
        for norm in norms:
            norm.track_running_stats = False


class TextEncoder(nn.Module):
    """A text's bag of features plus the output of two layers, which is 0 at first: training starts from a bag of words.

    For texts embedded by a sentence encoder, their vectors replace the bag, and no embedding is trained.

    Args:
        kind: text or vector.
        width: width of the embeddings and the layers; for vectors, of the hidden layer alone.
    """

    def __init__(self, kind: Kind, width: int) -> None:
        super().__init__()
        self.embedding = _embedding(kind, width)
        self.output_size = width if self.embedding else kind.shape[0]
        self.layers = Layers([self.output_size, width, self.output_size])
        _set_to_zero(self.layers.linear[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Feature ids (n, ids) or vectors (n, size) to (n, output_size)."""
        vectors = bag(x, self.embedding.weight if self.embedding else None)
        return vectors + self.layers(vectors)


def _embedding(kind: Kind, width: int) -> nn.Embedding | None:
    return nn.Embedding(BUCKETS, width, padding_idx=0) if kind.name == "text" else None


class Layers(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))
        self.output_size = sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        for i, layer in enumerate(self.linear):
            x = layer(functional.relu(x) if i else x)
        return x


def bag(x: Tensor, weight: Tensor | None) -> Tensor:
    """The sum of the embeddings (ids, width) of feature ids (..., n), scaled to length sqrt(width); id 0 is padding.

    With random embeddings, inner products of bags approximate those of the feature counts. Without embeddings x holds
    vectors (..., width), which are only rescaled.
    """
    vectors = x if weight is None else functional.embedding(x, weight, padding_idx=0).sum(-2)
    return functional.normalize(vectors, dim=-1) * vectors.shape[-1] ** 0.5


def _set_to_zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


# --- Networks that MAML adapts: a shared input, then layers and a head with each task's own weights


class Statistics(NamedTuple):
    """Mean and variance of a layer's inputs over a task's support, (..., channels)."""

    mean: Tensor
    variance: Tensor


LayerStatistics = tuple[Statistics, ...]
"""The statistics of all normalisation layers."""


class TaskNetwork(nn.Module):
    """Layers and a head as a function of their parameters; `shared` first maps the examples with weights that do not adapt.

    The module's own parameters are the tasks' initial ones. With each task's parameters, `torch.vmap` runs many tasks at once.
    """

    def shared(self, x: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        """Examples (tasks, n, *shape) to inputs of the layers, by parameters that all tasks share."""
        return x

    def forward(
        self, params: Mapping[str, Tensor], x: Tensor, statistics: LayerStatistics | None = None
    ) -> tuple[Tensor, LayerStatistics]:
        """One task's inputs (n, ...) to outputs (n, outputs) and the statistics used; `statistics` replaces the inputs' own."""
        raise NotImplementedError

    @property
    def running(self) -> LayerStatistics:
        """The statistics used before there is a support."""
        return ()


class ConvNetwork(TaskNetwork):
    """Four blocks of strided 3 x 3 convolution, normalisation and ReLU, then the mean over the image and a head.

    As for Omniglot in Finn et al. 2017, section 5.2, except for the statistics: those of the task's support normalise both
    support and query, so that a prediction does not depend on the other queries.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, kind: Kind, channels: int) -> None:
        super().__init__()
        sizes = [kind.shape[0], *[channels] * 4]
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, bias=False) for i, o in pairwise(sizes))
        self.scales = nn.ParameterList(torch.ones(channels) for _ in range(4))
        self.shifts = nn.ParameterList(torch.zeros(channels) for _ in range(4))
        self.head = nn.Linear(channels, kind.outputs)
        self.register_buffer("mean", torch.zeros(4, channels))
        self.register_buffer("variance", torch.ones(4, channels))

    @property
    def running(self) -> LayerStatistics:
        """See `TaskNetwork`."""
        return tuple(Statistics(*layer) for layer in zip(self.mean, self.variance))

    def forward(
        self, params: Mapping[str, Tensor], x: Tensor, statistics: LayerStatistics | None = None
    ) -> tuple[Tensor, LayerStatistics]:
        """See `TaskNetwork`."""
        used = []
        for i in range(4):
            x = functional.conv2d(x, params[f"convolutions.{i}.weight"], stride=2, padding=1)
            if statistics is None:
                mean = x.mean((0, 2, 3))  # torch.var_mean is wrong under vmap: it counts the task as a dimension
                layer_statistics = Statistics(mean, (x - mean[:, None, None]).square().mean((0, 2, 3)))
            else:
                layer_statistics = statistics[i]
            used.append(layer_statistics)
            # y = (x - mean) / sqrt(variance + eps) * scale + shift
            scale = params[f"scales.{i}"] * (layer_statistics.variance + 1e-5).rsqrt()
            x = functional.relu(
                x * scale[:, None, None] + (params[f"shifts.{i}"] - layer_statistics.mean * scale)[:, None, None]
            )
        return functional.linear(x.mean((2, 3)), params["head.weight"], params["head.bias"]), tuple(used)


class LayerNetwork(TaskNetwork):
    """Two linear layers with ReLU and a head; for texts, `TextEncoder` and a head, with one embedding for all tasks."""

    def __init__(self, kind: Kind, channels: int) -> None:
        super().__init__()
        self.text = kind.name in TEXTS
        self.embedding = _embedding(kind, channels)
        inputs = channels if self.embedding else kind.shape[0]
        outputs = inputs if self.text else channels
        self.layers = Layers([inputs, channels, outputs])
        self.head = nn.Linear(outputs, kind.outputs)
        if self.text:
            _set_to_zero(self.layers.linear[-1])

    def shared(self, x: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        """See `TaskNetwork`."""
        return bag(x, params.get(EMBEDDING)) if self.text else x

    def forward(
        self, params: Mapping[str, Tensor], x: Tensor, statistics: LayerStatistics | None = None
    ) -> tuple[Tensor, LayerStatistics]:
        """See `TaskNetwork`; returns no statistics."""
        first, second, head = (
            (params[f"{n}.weight"], params[f"{n}.bias"]) for n in ("layers.linear.0", "layers.linear.1", "head")
        )
        hidden = functional.linear(functional.relu(functional.linear(x, *first)), *second)
        return functional.linear(x + hidden if self.text else functional.relu(hidden), *head), ()


def task_network(kind: Kind, channels: int) -> TaskNetwork:
    """The network that MAML adapts, for this kind of examples."""
    return ConvNetwork(kind, channels) if kind.name == "image" else LayerNetwork(kind, channels)
