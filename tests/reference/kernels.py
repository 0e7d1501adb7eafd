"""Writes kernels/tests/reference/*.json: what PyTorch computes for small cases of every kernel.

Run from the root of the repository, with PyTorch installed: python tests/reference/kernels.py

Inputs are multiples of 1/64, so that JSON holds them exactly; results are computed in f64. Images are written NHWC,
convolution weights OIHW.
"""

import json
import pathlib

import torch
import torch.nn.functional as F

OUT = pathlib.Path(__file__).resolve().parents[2] / "kernels" / "tests" / "reference"
torch.set_default_dtype(torch.float64)


def noise(*shape):
    return (torch.randn(*shape) * 64).round() / 64


def leaf(*shape):
    return noise(*shape).requires_grad_()


def nhwc(t):
    return t.permute(0, 2, 3, 1)


def flat(t):
    return [float(f"{v:.8g}") for v in t.detach().reshape(-1).tolist()]


def write(name, cases):
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (OUT / f"{name}.json").write_text(f"[\n{lines}\n]\n")


def conv():
    cases = []
    for n, h, w, ci, co, k, stride, padding, dilation, groups in [
        (2, 6, 5, 3, 4, (3, 3), (1, 1), (1, 1), (1, 1), 1),
        (1, 7, 9, 2, 3, (3, 2), (2, 1), (1, 0), (1, 2), 1),
        (2, 8, 8, 3, 2, (3, 3), (2, 2), (1, 1), (1, 1), 1),
        (1, 5, 6, 4, 6, (1, 1), (2, 2), (0, 0), (1, 1), 1),
        (1, 6, 7, 4, 6, (3, 3), (1, 2), (2, 1), (2, 1), 2),
        (1, 7, 6, 5, 5, (3, 3), (2, 2), (1, 1), (1, 1), 5),
        (1, 5, 5, 3, 6, (5, 3), (3, 2), (2, 3), (1, 2), 3),
        (1, 4, 4, 2, 18, (1, 1), (1, 1), (1, 1), (1, 1), 1),
    ]:
        x, weight, bias = leaf(n, ci, h, w), leaf(co, ci // groups, *k), leaf(co)
        y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        dy = noise(*y.shape)
        y.backward(dy)
        cases.append(
            dict(shape=[n, h, w, ci, co, *k], stride=stride, padding=padding, dilation=dilation, groups=groups,
                 x=flat(nhwc(x)), w=flat(weight), bias=flat(bias), y=flat(nhwc(y)), dy=flat(nhwc(dy)),
                 dx=flat(nhwc(x.grad)), dw=flat(weight.grad), db=flat(bias.grad)))
    write("conv", cases)


def pool():
    cases = []
    for n, h, w, c, k, stride, padding in [
        (2, 4, 6, 3, (2, 2), (2, 2), (0, 0)),
        (1, 7, 6, 2, (3, 3), (2, 2), (1, 1)),
        (1, 6, 9, 3, (3, 2), (1, 3), (1, 1)),
        (1, 5, 5, 2, (5, 4), (2, 1), (2, 2)),
    ]:
        for kind, function in [("max", F.max_pool2d), ("avg", F.avg_pool2d)]:
            # few distinct values, so that windows have ties
            x = ((noise(n, c, h, w) * 2).round() / 2).requires_grad_()
            y = function(x, k, stride, padding)
            dy = noise(*y.shape)
            y.backward(dy)
            cases.append(
                dict(kind=kind, shape=[n, h, w, c], kernel=k, stride=stride, padding=padding, x=flat(nhwc(x)),
                     y=flat(nhwc(y)), dy=flat(nhwc(dy)), dx=flat(nhwc(x.grad))))
    x = leaf(2, 3, 3, 5)
    y = F.adaptive_avg_pool2d(x, 1)
    dy = noise(*y.shape)
    y.backward(dy)
    cases.append(dict(kind="global", shape=[2, 3, 5, 3], kernel=[3, 5], stride=[1, 1], padding=[0, 0],
                      x=flat(nhwc(x)), y=flat(y), dy=flat(dy), dx=flat(nhwc(x.grad))))
    write("pool", cases)


def norm():
    cases = []
    for training in [True, False]:
        x, gamma, beta = leaf(3, 5, 4, 3), leaf(5), leaf(5)
        mean, var = noise(5), noise(5).abs() + 0.5
        given = dict(running_mean=flat(mean), running_var=flat(var))
        y = F.batch_norm(x, mean, var, gamma, beta, training, 0.1, 1e-5)
        dy = noise(*y.shape)
        y.backward(dy)
        # what training leaves in the running statistics, momentum 0.1
        cases.append(
            dict(training=training, x=flat(nhwc(x)), gamma=flat(gamma), beta=flat(beta), **given,
                 new_mean=flat(mean), new_var=flat(var), y=flat(nhwc(y)), dy=flat(nhwc(dy)), dx=flat(nhwc(x.grad)),
                 dgamma=flat(gamma.grad), dbeta=flat(beta.grad)))
    write("norm", cases)


def activation():
    cases = []
    for name, function in [
        ("relu", F.relu),
        ("relu6", F.relu6),
        ("leaky_relu", lambda x: F.leaky_relu(x, 0.25)),
        ("sigmoid", torch.sigmoid),
        ("tanh", torch.tanh),
        ("silu", F.silu),
        ("gelu", F.gelu),
        ("hardswish", F.hardswish),
        ("hardsigmoid", F.hardsigmoid),
        ("elu", lambda x: F.elu(x, 0.75)),
        ("softmax", lambda x: torch.softmax(x.view(4, 8), -1).view(-1)),
    ]:
        kinks = torch.tensor([-20.0, -6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0, 20.0])
        x = torch.cat([kinks, noise(23) * 3]).requires_grad_()
        y = function(x)
        dy = noise(32)
        y.backward(dy)
        cases.append(dict(name=name, x=flat(x), y=flat(y), dy=flat(dy), dx=flat(x.grad)))
    write("activation", cases)


def loss():
    cases = []
    labels, weights = torch.tensor([0, 4, 2, 2, 1, 3]), torch.tensor([1.0, 0.5, 2.0, 0.25, 1.5])
    for smoothing, weight in [(0.0, None), (0.1, None), (0.0, weights), (0.2, weights)]:
        x = (noise(6, 5) * 4).requires_grad_()
        value = F.cross_entropy(x, labels, weight, reduction="sum", label_smoothing=smoothing)
        value.backward()
        mean = F.cross_entropy(x, labels, weight, label_smoothing=smoothing)
        cases.append(
            dict(name="cross_entropy", k=5, x=flat(x), labels=labels.tolist(), smoothing=smoothing,
                 weights=None if weight is None else flat(weight), loss=flat(value)[0], mean=flat(mean)[0],
                 dx=flat(x.grad)))
    pos_weight = torch.tensor([2.0, 0.5, 1.0])
    for name, function in [
        ("bce", F.binary_cross_entropy_with_logits),
        ("bce_pos_weight", lambda x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=pos_weight)),
        ("mse", F.mse_loss),
        ("mae", F.l1_loss),
        ("huber", lambda x, t: F.huber_loss(x, t, delta=0.75)),
    ]:
        x = (noise(4, 3) * 3).requires_grad_()
        target = (torch.rand(4, 3) * 64).round() / 64 if name.startswith("bce") else noise(4, 3)
        if not name.startswith("bce"):
            target[1] = x.detach()[1]
        value = function(x, target) * 4  # the sum over samples of their means over outputs
        value.backward()
        cases.append(
            dict(name=name, k=3, x=flat(x), targets=flat(target), loss=flat(value)[0], dx=flat(x.grad)))
    write("loss", cases)


def optimizer():
    cases = []
    for name, options in [
        ("sgd", dict(lr=0.1)),
        ("sgd", dict(lr=0.1, weight_decay=0.01)),
        ("sgd", dict(lr=0.05, momentum=0.9, weight_decay=0.01)),
        ("sgd", dict(lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True)),
        ("adam", dict(lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)),
        ("adam", dict(lr=0.01, betas=(0.8, 0.99), eps=0.1, weight_decay=0.1)),
        ("adamw", dict(lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)),
    ]:
        make = dict(sgd=torch.optim.SGD, adam=torch.optim.Adam, adamw=torch.optim.AdamW)[name]
        p = leaf(11)
        start, grads, params = flat(p), [], []
        steps = make([p], **options)
        for _ in range(5):
            p.grad = noise(11)
            grads.append(flat(p.grad))
            steps.step()
            params.append(flat(p))
        cases.append(dict(name=name, options=options, start=start, grads=grads, params=params))
    write("optimizer", cases)


OUT.mkdir(parents=True, exist_ok=True)
for seed, make in enumerate([conv, pool, norm, activation, loss, optimizer]):
    torch.manual_seed(seed)
    make()
