"""Learners of few-shot learning: their mathematics by hand, and that order, labels and other tasks do not matter."""

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


def make(name: str, kind: Kind = IMAGE, **changed) -> FewShot:
    made, settings = LEARNERS[name]
    return made(replace(settings, **changed), kind, seed=1, device=CPU, classes=0 if kind is NUMBER else 12, total_updates=1000)


def episode(kind: Kind = IMAGE, tasks: int = 3, shots: int = 2, queries: int = 4, seed: int = 0) -> Episode:
    """Classes whose examples look a little alike."""
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


def answer(learner: FewShot, given: Episode) -> torch.Tensor:
    return learner.answer(given).detach()


def probabilities(prediction: torch.Tensor, kind: Kind) -> torch.Tensor:
    return prediction if kind is NUMBER else torch.softmax(prediction, -1)


@pytest.mark.parametrize("kind", [IMAGE, TEXT], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", LEARNERS)
def test_answers_do_not_depend_on_other_queries_other_tasks_or_the_order_of_the_support(name, kind):
    learner, given = make(name, kind), episode(kind)
    for _ in range(2):
        learner.update([episode(kind, seed=7)], 0)
    whole = answer(learner, given)
    assert whole.shape == (3, 20, 5)
    alone = torch.cat(
        [
            torch.stack(
                [
                    answer(learner, given._replace(query=given.query._replace(x=given.query.x[:, q : q + 1])))[:, 0]
                    for q in range(3)
                ],
                1,
            )
        ]
    )
    torch.testing.assert_close(alone, whole[:, :3], atol=1e-5, rtol=1e-5)
    turned = answer(learner, given._replace(query=Examples(given.query.x.flip(1), given.query.y.flip(1)))).flip(1)
    torch.testing.assert_close(turned, whole, atol=1e-5, rtol=1e-5)
    one_by_one = torch.cat([answer(learner, part) for part in given.split(3)])
    torch.testing.assert_close(one_by_one, whole, atol=1e-5, rtol=1e-5)
    other_order = answer(learner, given._replace(support=Examples(given.support.x.flip(1), given.support.y.flip(1))))
    if name == "matching-fce":  # a bidirectional LSTM reads the support in its order
        assert not torch.allclose(other_order, whole, atol=1e-6)
    else:
        torch.testing.assert_close(other_order, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["matching", "matching-fce", "proto", "nearest", "transfer"])
def test_other_labels_for_the_classes_give_the_same_answers_under_these(name):
    """(MAML's head begins with weights of its own for each label.)"""
    learner, given = make(name), episode()
    to = torch.tensor([3, 0, 4, 1, 2])
    renamed = given._replace(support=given.support._replace(y=to[given.support.y]))
    torch.testing.assert_close(answer(learner, renamed)[:, :, to], answer(learner, given), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [IMAGE, TEXT, NUMBER], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", LEARNERS)
def test_training_helps_and_resumes_exactly(name, kind):
    if kind is NUMBER and name in COMPARING:
        pytest.skip("compares classes")
    learner = make(name, kind, **({"inner_lr": 0.01} if kind is NUMBER and hasattr(LEARNERS[name][1], "inner_lr") else {}))
    losses = []
    for i in range(12):
        losses.append(learner.update([episode(kind, seed=i % 2)], i).get("loss"))
        if i == 5:
            kept = torch.utils._pytree.tree_map(lambda t: t.clone() if isinstance(t, torch.Tensor) else t, learner.state_dict())
    if name != "nearest":
        assert losses[10] < losses[0]
    again = make(name, kind, **({"inner_lr": 0.01} if kind is NUMBER and hasattr(LEARNERS[name][1], "inner_lr") else {}))
    again.load_state_dict(kept)
    for i in range(6, 12):
        again.update([episode(kind, seed=i % 2)], i)
    given = episode(kind, seed=9)
    assert torch.equal(answer(again, given), answer(learner, given))


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "nearest"])
def test_before_any_support_nothing_is_known(name):
    learner, given = make(name), episode()
    prediction, _ = learner.predict(learner.initial_state(3), given.query.x)
    assert prediction.shape == (3, 20, 5)
    assert prediction.isfinite().all()
    if name in COMPARING:
        assert torch.equal(torch.softmax(prediction, -1), torch.full((3, 20, 5), 0.2))


def test_matching_by_hand():
    learner, given = make("matching", temperature=0.5), episode(tasks=1)
    f = learner.features(given.query.x)[0].detach().double().numpy()
    g = learner.features(given.support.x)[0].detach().double().numpy()
    y = np.eye(5)[given.support.y[0].numpy()]
    expected = []
    for x in f:
        cosine = [float(x @ s / np.linalg.norm(x) / np.linalg.norm(s)) for s in g]
        a = np.exp(np.array(cosine) / 0.5)
        expected.append((a / a.sum()) @ y)
    found = torch.softmax(answer(learner, given)[0].double(), -1)  # they are logarithms of probabilities
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(answer(learner, given)[0].exp().sum(-1), 1.0, atol=1e-5)


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
    learner, given = make("proto"), episode(tasks=2)
    f, g = learner.features(given.query.x).detach(), learner.features(given.support.x).detach()
    for task in range(2):
        for k in range(5):
            c = g[task][given.support.y[task] == k].mean(0)
            torch.testing.assert_close(
                answer(learner, given)[task, :, k], -(f[task] - c).square().sum(-1), atol=1e-4, rtol=1e-4
            )


def test_nearest_by_hand():
    given = episode(tasks=1)
    learner = make("nearest")
    for q, prediction in zip(given.query.x[0], answer(learner, given)[0]):
        distance = (given.support.x[0] - q).flatten(1).norm(dim=1)
        assert prediction.argmax() == given.support.y[0, distance.argmin()]


@pytest.mark.parametrize(("first_order", "transductive"), [(False, False), (True, False), (False, True)])
def test_the_gradient_through_the_inner_steps_is_the_written_out_one(first_order, transductive):
    """In float64, against double back-propagation task by task through plain functions."""
    learner = make("maml", first_order=first_order, transductive=transductive)
    learner.net.double()
    given = episode(tasks=2).map(lambda t: t.double() if t.is_floating_point() else t)
    value, metrics = learner._share(given, 1.0)
    found = flatten(torch.autograd.grad(value, list(learner.parameters().values())))

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
    for task in given.split(2):
        p = params
        for _ in range(2):
            inner = functional.cross_entropy(forward(p, task.support.x[0])[0], task.support.y[0])
            slopes = torch.autograd.grad(inner, p.values(), create_graph=not first_order)
            p = {name: value - 0.1 * slope for (name, value), slope in zip(p.items(), slopes)}
        statistics = None if transductive else forward(p, task.support.x[0])[1]
        loss = loss + functional.cross_entropy(forward(p, task.query.x[0], statistics)[0], task.query.y[0]) / 2
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(params.values()))])
    assert metrics["loss"] == pytest.approx(float(loss), rel=1e-9)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_multi_step_loss_moves_to_the_last_step():
    learner = make("anil")  # 3 inner steps, 10 outer ones
    assert learner._loss_weights() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    learner.updates = 5
    assert learner._loss_weights() == pytest.approx([1 / 6, 1 / 6, 2 / 3])
    learner.updates = 30
    assert learner._loss_weights() == [0.0, 0.0, 1.0]


def test_memory_does_not_grow_with_outer_steps():
    """learn2learn#284: each clone-and-adapt left a graph behind."""
    learner, given = make("maml", inner_steps=5), episode(tasks=2, shots=1, queries=2)

    def tensors():
        gc.collect()
        return sum(isinstance(o, torch.Tensor) for o in gc.get_objects())

    counts = []
    for i in range(30):
        learner.update([given], i)
        if i in (5, 29):
            counts.append((tensors(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    assert counts[1][0] <= counts[0][0]
    assert counts[1][1] - counts[0][1] < 20_000  # kB


@pytest.mark.parametrize(
    ("settings", "says"),
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
def test_bad_settings_are_refused(settings, says):
    with pytest.raises(UserError, match=says):
        settings()


# ---------------------------------------------------------------------- the outer step that all share


@pytest.mark.parametrize(("name", "kind"), [("maml", IMAGE), ("meta-sgd", IMAGE), ("proto", TEXT), ("matching-fce", TEXT)])
def test_shards_only_share_the_work(name, kind):
    """(Batch normalisation is the exception: it takes a shard for the batch.)"""
    given, gradients = episode(kind, tasks=5), []
    for shards in (1, 2, 4):
        learner = make(name, kind, shards=shards)
        learner.update([given], 0)
        gradients.append(torch.cat([p.grad.flatten() for p in learner.parameters().values()]))
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], atol=1e-6, rtol=1e-4)


def test_the_learning_rate_falls_as_half_a_cosine_over_training():
    learner, rates = make("proto"), []
    for done in (0, 250, 500, 1000, 1200):
        learner.updates = done
        learner.update([episode()], 0)
        rates.append(learner.optimizer.param_groups[0]["lr"])
    half = 2**-0.5
    assert rates == pytest.approx([1e-3, 1e-3 * (1 + half) / 2, 0.5e-3, 0.0, 0.0])
    steady = make("proto", anneal=False)
    steady.updates = 900
    steady.update([episode()], 0)
    assert steady.optimizer.param_groups[0]["lr"] == 1e-3


def test_outside_training_the_statistics_of_whole_batches_are_used():
    learner, given = make("proto"), episode()
    before = {name: value.clone() for name, value in learner.net.state_dict().items()}
    learner.update([given], 0)
    after = learner.net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name)
    learner.observe([given])
    x = torch.cat([given.support.x, given.query.x], 1).flatten(0, 1)
    inputs = learner.net.blocks[0][0](x)
    norm = learner.net.blocks[0][1]
    torch.testing.assert_close(norm.running_mean, inputs.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, inputs.var((0, 2, 3)), atol=1e-4, rtol=1e-3)
    learner.observe([given, episode(seed=5)])
    assert not torch.allclose(norm.running_mean, inputs.mean((0, 2, 3)), atol=1e-5)  # the mean over both batches


def test_an_untrained_encoder_of_texts_compares_them_about_as_counts_of_their_features_do():
    said = ("what is my balance", "what was my balance", "balances please", "book a flight to Oslo", "flights to Oslo")
    x = torch.from_numpy(np.stack([features(text) for text in said])).long()
    counts = torch.zeros(len(x), BUCKETS).scatter_(1, x, 1.0)
    counts[:, 0] = 0
    torch.manual_seed(0)
    embedded, counted = (
        functional.cosine_similarity(f[None], f[:, None], dim=-1) for f in (encoder(TEXT, 2048)(x).detach(), counts)
    )
    assert (embedded - counted).abs().max() < 0.1
    assert counted[0, 1] > 0.5 > counted[0, 2] > 0.2 > counted[0, 3]


def test_bfloat16_is_near_float32_in_training_and_out_of_answers():
    given, losses, answers = episode(), [], []
    for precision in ("float32", "bfloat16"):
        learner = make("proto", precision=precision)
        answers.append(answer(learner, given))
        learner.net.train()
        losses.append(float(learner.loss(given)[0].detach()))
        learner.net.eval()
    assert torch.equal(*answers)
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
