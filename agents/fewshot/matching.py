"""Matching networks (Vinyals et al. 2016): predict a query's label as an attention-weighted mean of the support's labels."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.agents import Preset
from metarl.agents.fewshot.base import Comparing, EncoderSettings
from metarl.errors import UserError
from metarl.learner import State
from metarl.nn.graphs import Graph
from metarl.system.ranges import check


@dataclass(frozen=True)
class MatchingSettings(EncoderSettings):
    """Settings of matching networks."""

    context: bool = False
    """Full context embeddings: the features of support and queries depend on the whole support."""
    reads: int = 5
    """With context: steps in which a query's features attend to the support."""
    temperature: float = 0.1
    """Temperature of the softmax over cosines. The paper uses none (1), which gives the right one of 20 classes at most
    e^2 / (e^2 + 19) = 28 % of the attention."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, reads="[1, 10000]", temperature="(0, inf)")


PRESETS = {
    "matching": {
        "default": Preset(MatchingSettings()),
        "omniglot": Preset(MatchingSettings(), {"ways": 20, "meta_batch": 1}),
        "clinc150": Preset(MatchingSettings(channels=256), {"steps": 300}),
    }
}


class Context(nn.Module):
    """Full context embeddings (the paper's appendix A).

    Args:
        size: size of the features.
        reads: steps of the query's attention.
    """

    def __init__(self, size: int, reads: int) -> None:
        super().__init__()
        self.reads = reads
        self.support_lstm = nn.LSTM(size, size, batch_first=True, bidirectional=True)
        self.query_lstm = nn.LSTMCell(2 * size, size)

    def support(self, features: Tensor) -> Tensor:
        """g(x_i, S) = h_i forwards + h_i backwards + g'(x_i); (tasks, n, size)."""
        forwards, backwards = self.support_lstm(features)[0].chunk(2, -1)
        return forwards + backwards + features

    def query(self, features: Tensor, support: Tensor) -> Tensor:
        """f(x, S): an LSTM that reads the support at every step; (tasks, queries, size)."""
        tasks, n, size = features.shape
        flat = features.flatten(0, 1)
        h = r = c = torch.zeros_like(flat)
        for _ in range(self.reads):
            # h_k, c_k = LSTM(f'(x), [h_(k-1), r_(k-1)], c_(k-1));  h_k = h_k + f'(x); r enters the gates as h does
            h, c = self.query_lstm(torch.cat([flat, r], -1), (h, c))
            h = h + flat
            # a(h_k, g(x_i)) = softmax(h_k . g(x_i));  r_k = sum_i a g(x_i)
            attention = torch.softmax(h.view(tasks, n, size) @ support.mT, -1)
            r = (attention @ support).flatten(0, 1)
        return h.view(tasks, n, size)


class Network(nn.Module):
    """The encoder, and the context if `reads` is given."""

    def __init__(self, encoder: nn.Module, reads: int | None) -> None:
        super().__init__()
        self.encoder = encoder
        size = int(encoder.output_size)  # type: ignore[arg-type]
        self.context = None if reads is None else Context(size, reads)

    def forward(self, x: Tensor) -> Tensor:
        """Examples (n, *shape) to features (n, size)."""
        return self.encoder(x)


class Matching(Comparing):
    """Matching networks."""

    settings: MatchingSettings
    net: Network

    def build(self) -> nn.Module:
        """The encoder, with context if set."""
        s = self.settings
        return Network(s.encoder(self.kind), s.reads if s.context else None)

    def graph(self, state: State) -> Graph:
        """See `Comparing.graph`.

        Raises:
            UserError: the learner has context, whose LSTM torch's exporter fixes to one number of examples.
        """
        if self.net.context is not None:
            raise UserError("matching with --context cannot be exported: torch fixes the number of examples there")
        return super().graph(state)

    def compare(self, state: State, features: Tensor) -> Tensor:
        """Log-probabilities (tasks, queries, ways)."""
        support, targets = state["features"], state["targets"]
        if self.net.context is not None:
            support = self.net.context.support(support)
            features = self.net.context.query(features, support)
        # a(x, x_i) = softmax over i of cos(f(x), g(x_i)) (section 2.1.1)
        cosine = functional.normalize(features, dim=-1) @ functional.normalize(support, dim=-1).mT
        log_attention = torch.log_softmax(cosine / self.settings.temperature, -1)
        # P(y | x, S) = sum_i a(x, x_i) y_i (equation 1), as a logarithm
        other_class = functional.one_hot(targets, self.ways).mT.unsqueeze(1) == 0
        return torch.logsumexp(log_attention.unsqueeze(2).masked_fill(other_class, -torch.inf), -1)
