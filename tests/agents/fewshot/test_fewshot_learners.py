"""Few-shot learners: their mathematics by hand, and invariance to order, labels and other tasks."""

import gc
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from metarl.agents.fewshot.base import FewShot
from metarl.agents.fewshot.baselines import Nearest, NearestSettings, Transfer, TransferSettings
from metarl.agents.fewshot.maml import MAML, MAMLSettings
from metarl.agents.fewshot.matching import Matching, MatchingSettings
from metarl.agents.fewshot.networks import Kind, encoder
from metarl.agents.fewshot.proto import Proto, ProtoSettings
from metarl.datasets.episodes import Episode, Examples
from metarl.datasets.features import BUCKETS
from metarl.datasets.text import features
from metarl.errors import UserError
from metarl.optim.inner_loop import flatten

CPU = torch.device("cpu")
IMAGE, TEXT, NUMBER = Kind("image", (1, 28, 28), 5), Kind("text", (7,), 5), Kind("regression", (1,), 1)
LEARNERS = {
    "maml": (MAML, MAMLSettings(channels=8, inner_lr=0.1, inner_steps=2)),
    "meta-sgd": (MAML, MAMLSettings(channels=8, inner_lr=0.1, inner_steps=2, rates="weight", rates_by_step=True)),
    "anil": (MAML, MAMLSettings(channels=8, inner_lr=0.1, adapt_part="head", multi_step_loss=10, inner_steps=3)),
    "matching": (Matching, MatchingSettings(channels=8)),
    "matching-fce": (Matching, MatchingSettings(channels=8, context=True, reads=2)),
    "proto": (Proto, ProtoSettings(channels=8)),
    "transfer": (Transfer, TransferSettings(channels=8, fit_steps=5)),
    "fine-tuning": (Transfer, TransferSettings(channels=8, fit="all", fit_steps=3, fit_lr=0.01)),
    "nearest": (Nearest, NearestSettings()),
}
COMPARING = {"matching", "matching-fce", "proto"}


def make(name: str, kind: Kind = IMAGE, **changes) -> FewShot:
    learner_class, settings = LEARNERS[name]
    return learner_class(
        replace(settings, **changes), kind, seed=1, device=CPU, classes=0 if kind is NUMBER else 12, total_updates=1000
    )


def episode(kind: Kind = IMAGE, tasks: int = 3, shots: int = 2, queries: int = 4, seed: int = 0) -> Episode:
    """An episode in which examples of a class resemble each other."""
    rng = torch.Generator().manual_seed(seed)
    ways = kind.outputs

    def half(n: int) -> Examples:
        if kind is NUMBER:
            x = torch.rand(tasks, n, 1, generator=rng) * 10 - 5
            return Examples(x, torch.sin(x + torch.arange(tasks)[:, None, None]))
        y = torch.stack([torch.arange(ways).repeat(n)[torch.randperm(ways * n, generator=rng)] for _ in range(tasks)])
        if kind is TEXT:
            return Examples(torch.randint(0, 50, (tasks, ways * n, 7), generator=rng) * 10 + y[..., None], y)
        noise = torch.rand(tasks, ways * n, *kind.shape, generator=rng)
        return Examples(0.5 * prototypes.gather(1, y[:, :, None, None, None].expand_as(noise)) + 0.5 * noise, y)

    if kind is IMAGE:
        prototypes = torch.rand(tasks, ways, *kind.shape, generator=rng)
    classes = None if kind is NUMBER else torch.stack([torch.randperm(12, generator=rng)[:ways] for _ in range(tasks)])
    return Episode(half(shots), half(queries), classes)


def answer(learner: FewShot, batch: Episode) -> torch.Tensor:
    return learner.predict_query(batch).detach()


def probabilities(prediction: torch.Tensor, kind: Kind) -> torch.Tensor:
    return prediction if kind is NUMBER else torch.softmax(prediction, -1)


@pytest.mark.parametrize("kind", [IMAGE, TEXT], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", LEARNERS)
def test_predictions_do_not_depend_on_other_queries_other_tasks_or_the_order_of_the_support(name, kind):
    learner, batch = make(name, kind), episode(kind)
    for _ in range(2):
        learner.update([episode(kind, seed=7)], 0)
    predictions = answer(learner, batch)
    assert predictions.shape == (3, 20, 5)
    alone = torch.cat(
        [
            torch.stack(
                [
                    answer(learner, batch._replace(query=batch.query._replace(x=batch.query.x[:, q : q + 1])))[:, 0]
                    for q in range(3)
                ],
                1,
            )
        ]
    )
    torch.testing.assert_close(alone, predictions[:, :3], atol=1e-5, rtol=1e-5)
    flipped = answer(learner, batch._replace(query=Examples(batch.query.x.flip(1), batch.query.y.flip(1)))).flip(1)
    torch.testing.assert_close(flipped, predictions, atol=1e-5, rtol=1e-5)
    one_by_one = torch.cat([answer(learner, part) for part in batch.split(3)])
    torch.testing.assert_close(one_by_one, predictions, atol=1e-5, rtol=1e-5)
    reversed_support = answer(learner, batch._replace(support=Examples(batch.support.x.flip(1), batch.support.y.flip(1))))
    if name == "matching-fce":  # a bidirectional LSTM reads the support in its order
        assert not torch.allclose(reversed_support, predictions, atol=1e-6)
    else:
        torch.testing.assert_close(reversed_support, predictions, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["matching", "matching-fce", "proto", "nearest", "transfer"])
def test_predictions_follow_a_permutation_of_the_labels(name):
    """MAML is left out: its head has different initial weights for each label."""
    learner, batch = make(name), episode()
    permutation = torch.tensor([3, 0, 4, 1, 2])
    relabelled = batch._replace(support=batch.support._replace(y=permutation[batch.support.y]))
    torch.testing.assert_close(answer(learner, relabelled)[:, :, permutation], answer(learner, batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [IMAGE, TEXT, NUMBER], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", LEARNERS)
def test_training_lowers_the_loss_and_resumes_exactly(name, kind):
    if kind is NUMBER and name in COMPARING:
        pytest.skip("compares classes")
    learner = make(name, kind, **({"inner_lr": 0.01} if kind is NUMBER and hasattr(LEARNERS[name][1], "inner_lr") else {}))
    losses = []
    for i in range(12):
        losses.append(learner.update([episode(kind, seed=i % 2)], i).get("loss"))
        if i == 5:
            checkpoint = torch.utils._pytree.tree_map(
                lambda t: t.clone() if isinstance(t, torch.Tensor) else t, learner.state_dict()
            )
    if name != "nearest":
        assert losses[10] < losses[0]
    resumed = make(name, kind, **({"inner_lr": 0.01} if kind is NUMBER and hasattr(LEARNERS[name][1], "inner_lr") else {}))
    resumed.load_state_dict(checkpoint)
    for i in range(6, 12):
        resumed.update([episode(kind, seed=i % 2)], i)
    batch = episode(kind, seed=9)
    assert torch.equal(answer(resumed, batch), answer(learner, batch))


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "nearest"])
def test_predictions_without_a_support(name):
    learner, batch = make(name), episode()
    prediction, _ = learner.predict(learner.initial_state(3), batch.query.x)
    assert prediction.shape == (3, 20, 5)
    assert prediction.isfinite().all()
    if name in COMPARING:
        assert torch.equal(torch.softmax(prediction, -1), torch.full((3, 20, 5), 0.2))


def test_matching_by_hand():
    learner, batch = make("matching", temperature=0.5), episode(tasks=1)
    f = learner.features(batch.query.x)[0].detach().double().numpy()
    g = learner.features(batch.support.x)[0].detach().double().numpy()
    y = np.eye(5)[batch.support.y[0].numpy()]
    expected = []
    for x in f:
        cosine = [float(x @ s / np.linalg.norm(x) / np.linalg.norm(s)) for s in g]
        a = np.exp(np.array(cosine) / 0.5)
        expected.append((a / a.sum()) @ y)
    probability = torch.softmax(answer(learner, batch)[0].double(), -1)  # they are logarithms of probabilities
    np.testing.assert_allclose(probability, expected, atol=1e-6)
    np.testing.assert_allclose(answer(learner, batch)[0].exp().sum(-1), 1.0, atol=1e-5)


def test_full_context_embeddings_by_hand():
    learner = make("matching-fce")
    context = learner.net.context
    size = learner.net.encoder.output_size
    support, query = torch.randn(1, 4, size), torch.randn(1, 3, size)
    g = context.support(support)
    w = dict(context.support_lstm.named_parameters())

    def lstm(xs, suffix):
        h = c = torch.zeros(size)
        for x in xs:
            gates = sum(w[f"{kind}_l0{suffix}"] @ v for kind, v in (("weight_ih", x), ("weight_hh", h)))
            gates = gates + w[f"bias_ih_l0{suffix}"] + w[f"bias_hh_l0{suffix}"]
            i, f, z, o = gates.chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * z.tanh()
            h = o.sigmoid() * c.tanh()
            yield h

    forwards, backwards = list(lstm(support[0], "")), list(lstm(support[0].flip(0), "_reverse"))[::-1]
    for i in range(4):
        torch.testing.assert_close(g[0, i], forwards[i] + backwards[i] + support[0, i])
    f = context.query(query, g)
    cell = context.query_lstm
    for q in range(3):
        h = r = c = torch.zeros(size)
        for _ in range(2):
            h, c = cell(torch.cat([query[0, q], r]), (h, c))
            h = h + query[0, q]
            a = torch.softmax(g[0] @ h, 0)
            r = (a[:, None] * g[0]).sum(0)
        torch.testing.assert_close(f[0, q], h)


def test_prototypes_by_hand():
    learner, batch = make("proto"), episode(tasks=2)
    f, g = learner.features(batch.query.x).detach(), learner.features(batch.support.x).detach()
    for task in range(2):
        for k in range(5):
            c = g[task][batch.support.y[task] == k].mean(0)
            torch.testing.assert_close(
                answer(learner, batch)[task, :, k], -(f[task] - c).square().sum(-1), atol=1e-4, rtol=1e-4
            )


def test_nearest_by_hand():
    batch = episode(tasks=1)
    learner = make("nearest")
    for q, prediction in zip(batch.query.x[0], answer(learner, batch)[0]):
        distance = (batch.support.x[0] - q).flatten(1).norm(dim=1)
        assert prediction.argmax() == batch.support.y[0, distance.argmin()]


@pytest.mark.parametrize(("first_order", "transductive"), [(False, False), (True, False), (False, True)])
def test_the_meta_gradient_equals_double_backpropagation(first_order, transductive):
    """In float64, compared with back-propagation through plain functions, task by task."""
    learner = make("maml", first_order=first_order, transductive=transductive)
    learner.net.double()
    batch = episode(tasks=2).map(lambda t: t.double() if t.is_floating_point() else t)
    value, metrics = learner._weighted_loss(batch, 1.0)
    gradient = flatten(torch.autograd.grad(value, list(learner.parameters().values())))

    params = {name: value.detach().clone().requires_grad_() for name, value in learner.net.named_parameters()}

    def forward(p, x, statistics=None):
        used = []
        for i in range(4):
            x = functional.conv2d(x, p[f"convolutions.{i}.weight"], stride=2, padding=1)
            used.append((x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)))
            mean, variance = (t[:, None, None] for t in (statistics or used)[i])
            scale, shift = (p[f"{name}.{i}"][:, None, None] for name in ("scales", "shifts"))
            x = functional.relu((x - mean) / (variance + 1e-5).sqrt() * scale + shift)
        return functional.linear(x.mean((2, 3)), p["head.weight"], p["head.bias"]), used

    loss = 0
    for task in batch.split(2):
        p = params
        for _ in range(2):
            inner = functional.cross_entropy(forward(p, task.support.x[0])[0], task.support.y[0])
            slopes = torch.autograd.grad(inner, p.values(), create_graph=not first_order)
            p = {name: value - 0.1 * slope for (name, value), slope in zip(p.items(), slopes)}
        statistics = None if transductive else forward(p, task.support.x[0])[1]
        loss = loss + functional.cross_entropy(forward(p, task.query.x[0], statistics)[0], task.query.y[0]) / 2
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(params.values()))])
    assert metrics["loss"] == pytest.approx(float(loss), rel=1e-9)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)


def test_the_multi_step_loss_shifts_to_the_last_step():
    learner = make("anil")  # 3 inner steps, 10 outer ones
    assert learner._loss_weights() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    learner.updates = 5
    assert learner._loss_weights() == pytest.approx([1 / 6, 1 / 6, 2 / 3])
    learner.updates = 30
    assert learner._loss_weights() == [0.0, 0.0, 1.0]


def test_memory_does_not_grow_with_outer_steps():
    """In learn2learn#284 each clone-and-adapt left a graph behind."""
    learner, batch = make("maml", inner_steps=5), episode(tasks=2, shots=1, queries=2)

    def tensors():
        gc.collect()
        return sum(isinstance(o, torch.Tensor) for o in gc.get_objects())

    counts = []
    for i in range(30):
        learner.update([batch], i)
        if i in (5, 29):
            counts.append((tensors(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    assert counts[1][0] <= counts[0][0]
    assert counts[1][1] - counts[0][1] < 20_000  # kB


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: MAMLSettings(inner_steps=0), "inner_steps"),
        (lambda: MAMLSettings(rates_by_step=True), "learned rates"),
        (lambda: MatchingSettings(temperature=0), "temperature"),
        (lambda: TransferSettings(fit="body"), "head or all"),
        (lambda: ProtoSettings(precision="half"), "precision"),
        (lambda: MAMLSettings(shards=0), "shards"),
        (lambda: MAMLSettings(learning_rate=0), "learning_rate"),
        (lambda: make("maml", adapt_part="tail"), "head.weight"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        settings()


# ---------------------------------------------------------------------- the outer step that all share


@pytest.mark.parametrize(("name", "kind"), [("maml", IMAGE), ("meta-sgd", IMAGE), ("proto", TEXT), ("matching-fce", TEXT)])
def test_gradients_do_not_depend_on_the_number_of_shards(name, kind):
    """Learners with batch normalisation are left out: they normalise each shard separately."""
    batch, gradients = episode(kind, tasks=5), []
    for shards in (1, 2, 4):
        learner = make(name, kind, shards=shards)
        learner.update([batch], 0)
        gradients.append(torch.cat([p.grad.flatten() for p in learner.parameters().values()]))
    for sharded in gradients[1:]:
        torch.testing.assert_close(sharded, gradients[0], atol=1e-6, rtol=1e-4)


def test_the_learning_rate_decays_as_half_a_cosine():
    learner, rates = make("proto"), []
    for updates in (0, 250, 500, 1000, 1200):
        learner.updates = updates
        learner.update([episode()], 0)
        rates.append(learner.optimizer.param_groups[0]["lr"])
    cosine = 2**-0.5
    assert rates == pytest.approx([1e-3, 1e-3 * (1 + cosine) / 2, 0.5e-3, 0.0, 0.0])
    constant = make("proto", anneal=False)
    constant.updates = 900
    constant.update([episode()], 0)
    assert constant.optimizer.param_groups[0]["lr"] == 1e-3


def test_normalisation_statistics_come_from_whole_batches():
    learner, batch = make("proto"), episode()
    before = {name: value.clone() for name, value in learner.net.state_dict().items()}
    learner.update([batch], 0)
    after = learner.net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name)
    learner.observe([batch])
    x = torch.cat([batch.support.x, batch.query.x], 1).flatten(0, 1)
    inputs = learner.net.blocks[0][0](x)
    norm = learner.net.blocks[0][1]
    torch.testing.assert_close(norm.running_mean, inputs.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, inputs.var((0, 2, 3)), atol=1e-4, rtol=1e-3)
    learner.observe([batch, episode(seed=5)])
    assert not torch.allclose(norm.running_mean, inputs.mean((0, 2, 3)), atol=1e-5)  # the mean over both batches


def test_an_untrained_text_encoder_approximates_similarities_of_feature_counts():
    texts = ("what is my balance", "what was my balance", "balances please", "book a flight to Oslo", "flights to Oslo")
    x = torch.from_numpy(np.stack([features(text) for text in texts])).long()
    counts = torch.zeros(len(x), BUCKETS).scatter_(1, x, 1.0)
    counts[:, 0] = 0
    torch.manual_seed(0)
    embedding_similarity, count_similarity = (
        functional.cosine_similarity(f[None], f[:, None], dim=-1) for f in (encoder(TEXT, 2048)(x).detach(), counts)
    )
    assert (embedding_similarity - count_similarity).abs().max() < 0.1
    assert count_similarity[0, 1] > 0.5 > count_similarity[0, 2] > 0.2 > count_similarity[0, 3]


def test_bfloat16_is_used_in_training_only():
    batch, losses, predictions = episode(), [], []
    for precision in ("float32", "bfloat16"):
        learner = make("proto", precision=precision)
        predictions.append(answer(learner, batch))
        learner.net.train()
        losses.append(float(learner.loss(batch)[0].detach()))
        learner.net.eval()
    assert torch.equal(*predictions)
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
