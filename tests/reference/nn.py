"""Reference values for whole networks, computed by PyTorch in f64.

    python tests/reference/nn.py nn/tests/reference

Each case is a job spec (layers, task, loss), a batch and all of the network's numbers; the answer is what a training
shard and an evaluation must give. `nn/tests/pytorch.rs` compares. Needs torch and nothing else.
"""

import json
import pathlib
import sys

import torch
import torch.nn.functional as F
from torch import nn

PHILOX_MULTIPLIER = (0xD2511F53, 0xCD9E8D57)
PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)
DROPOUT = 4  # convoy_common::random::Purpose
MASK = 0xFFFFFFFF


def philox4x32_10(counter, key):
    """Salmon et al. 2011, section 3.2."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        low, high = PHILOX_MULTIPLIER[0] * c0, PHILOX_MULTIPLIER[1] * c2
        c0, c1, c2, c3 = (high >> 32) ^ c1 ^ k0, high & MASK, (low >> 32) ^ c3 ^ k1, low & MASK
        k0, k1 = (k0 + PHILOX_WEYL[0]) & MASK, (k1 + PHILOX_WEYL[1]) & MASK
    return c0, c1, c2, c3


class Dropout(nn.Module):
    """Masks looked up by address; numbers of a sample count in the order row, column, channel."""

    def __init__(self, p, stream, run):
        super().__init__()
        self.p, self.stream, self.run = p, stream, run

    def forward(self, x):
        if not self.training:
            return x
        seed, epoch = self.run["seed"], self.run["epoch"]
        rows = x.permute(0, 2, 3, 1) if x.dim() == 4 else x
        masks = []
        for sample in self.run["samples"]:
            words = []
            for block in range(-(-rows[0].numel() // 4)):
                counter = (block, sample, epoch, DROPOUT | self.stream << 8)
                words += philox4x32_10(counter, (seed & MASK, seed >> 32))
            keep = [(word >> 8) / 2**24 >= self.p for word in words[: rows[0].numel()]]
            masks.append(torch.tensor(keep).reshape(rows[0].shape))
        rows = rows * torch.stack(masks) / (1 - self.p)
        return rows.permute(0, 3, 1, 2) if x.dim() == 4 else rows


class GlobalAvgPool(nn.Module):
    def forward(self, x):
        return F.adaptive_avg_pool2d(x, 1)


class Residual(nn.Module):
    def __init__(self, children, shortcut):
        super().__init__()
        self.long = [child for _, child in children]
        for name, child in children:
            self.add_module(name, child)
        if shortcut is not None:
            self.shortcut = shortcut

    def forward(self, x):
        y = x
        for child in self.long:
            y = child(y)
        return y + (self.shortcut(x) if hasattr(self, "shortcut") else x)


PLAIN = {
    "global_avg_pool": GlobalAvgPool,
    "flatten": nn.Flatten,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "hard_swish": nn.Hardswish,
    "hard_sigmoid": nn.Hardsigmoid,
}


class Builder:
    """Turns the layers of a spec into modules, following the shape of one sample."""

    def __init__(self, run):
        self.run, self.streams = run, 0

    def chain(self, layers, x):
        children = []
        for index, layer in enumerate(layers):
            module = self.layer({k: v for k, v in layer.items() if k not in ("type", "name")}, layer["type"], x)
            children.append((layer.get("name", f"layer{index}"), module))
            x = module.eval()(x)
        return children, x

    def layer(self, keys, kind, x):
        if kind in PLAIN:
            return PLAIN[kind]()
        if kind == "conv":
            bias = keys.pop("bias", True)
            return nn.Conv2d(x.shape[1], keys.pop("out"), keys.pop("kernel"), bias=bias, **keys)
        if kind == "linear":
            return nn.Linear(x.shape[1], keys["out"], bias=keys.get("bias", True))
        if kind == "batch_norm":
            return (nn.BatchNorm2d if x.dim() == 4 else nn.BatchNorm1d)(x.shape[1], **keys)
        if kind == "max_pool":
            return nn.MaxPool2d(keys.pop("kernel"), **keys)
        if kind == "avg_pool":
            return nn.AvgPool2d(keys.pop("kernel"), **keys)
        if kind == "leaky_relu":
            return nn.LeakyReLU(keys["slope"])
        if kind == "elu":
            return nn.ELU(keys["alpha"])
        if kind == "softmax":
            return nn.Softmax(-1)
        if kind == "dropout":
            self.streams += 1
            return Dropout(keys["p"], self.streams - 1, self.run)
        assert kind == "residual", kind
        children, y = self.chain(keys["layers"], x)
        shortcut = None
        if y.shape != x.shape:
            stride = [-(-a // b) for a, b in zip(x.shape[2:], y.shape[2:])]
            shortcut = nn.Sequential(
                nn.Conv2d(x.shape[1], y.shape[1], 1, stride, bias=False), nn.BatchNorm2d(y.shape[1])
            )
        return Residual(children, shortcut)


def sum_of_losses(case, outputs, targets):
    """The sum over samples, and the sum of their weights."""
    loss, count = case["spec"].get("loss", {}), len(outputs)
    kind = loss.get("kind")
    if case["spec"]["task"] == "multiclass":
        weights = torch.tensor(loss.get("class_weights", [1.0] * outputs.shape[1]))
        smoothing = loss.get("label_smoothing", 0.0)
        total = F.cross_entropy(outputs, targets, weights, label_smoothing=smoothing, reduction="sum")
        return total, weights[targets].sum()
    if case["spec"]["task"] in ("binary", "multilabel"):
        targets = targets.to(outputs.dtype).reshape(outputs.shape)
        return F.binary_cross_entropy_with_logits(outputs, targets) * count, torch.tensor(float(count))
    functions = {"mse": F.mse_loss, "mae": F.l1_loss}
    huber = lambda a, b: F.huber_loss(a, b, delta=loss["delta"])
    return functions.get(kind, huber)(outputs, targets) * count, torch.tensor(float(count))


def random_numbers(shape, scale):
    return (torch.randn(shape) * scale * 256).round() / 256


def randomize(net):
    """Numbers with few digits, in f32 exact, so that the files stay small."""
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                fan_in = value[0].numel() if value.dim() > 1 else 16
                value.copy_(random_numbers(value.shape, fan_in**-0.5))
                if name.endswith("running_var") or (value.dim() == 1 and name.endswith("weight")):
                    value.add_(1)


def freeze(net):
    """Only the last fully connected layer learns; batch norms use their running statistics."""
    net.requires_grad_(False)
    [module for module in net.modules() if isinstance(module, nn.Linear)][-1].requires_grad_(True)
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.eval()


def compute(case):
    spec = case["spec"]
    run = {"seed": spec["seed"], "epoch": case["epoch"], "samples": case["samples"]}
    count, (h, w, c) = len(case["samples"]), case["input"]
    net = nn.Sequential()
    for name, module in Builder(run).chain(spec["network"]["layers"], torch.zeros(1, c, h, w))[0]:
        net.add_module(name, module)
    randomize(net)
    frozen = case["epoch"] < spec["network"].get("freeze_epochs", 0)
    state = {k: v.clone() for k, v in net.state_dict().items() if v.is_floating_point()}
    x = random_numbers((count, h, w, c), 1.0)
    targets = torch.tensor(case["targets"])
    if spec["task"] == "regression":
        targets = targets.to(x.dtype)

    nchw = x.permute(0, 3, 1, 2)
    with torch.no_grad():
        evaluated = net.eval()(nchw)
        evaluated_loss, _ = sum_of_losses(case, evaluated, targets)
    net.train()
    if frozen:
        freeze(net)
    outputs = net(nchw)
    loss, weight = sum_of_losses(case, outputs, targets)
    loss.backward()
    return {
        "x_nhwc": x.reshape(-1).tolist(),
        "tensors": {k: v.reshape(-1).tolist() for k, v in state.items()},
        "loss": loss.item(),
        "weight": weight.item(),
        "gradients": {k: numbers(p.grad) for k, p in net.named_parameters() if p.grad is not None},
        "running": {k: numbers(v) for k, v in net.state_dict().items() if "running" in k},
        "evaluated": numbers(evaluated),
        "evaluated_loss": evaluated_loss.item(),
    }


def numbers(tensor):
    return [float(f"{value:.7g}") for value in tensor.detach().reshape(-1).tolist()]


def conv(name, out, kernel, **keys):
    return {"type": "conv", "name": name, "out": out, "kernel": kernel, **keys}


def linear(name, out, **keys):
    return {"type": "linear", "name": name, "out": out, **keys}


def bn(name, **keys):
    return {"type": "batch_norm", "name": name, **keys}


def case(name, spec, layers, input, samples, targets, epoch=3, **network):
    spec = {"seed": 2**40 + 7, "data": {"train": "x"}, "network": {"layers": layers, **network}, **spec}
    return {"name": name, "spec": spec, "input": input, "samples": samples, "targets": targets, "epoch": epoch}


RESNET = [
    conv("conv1", 6, 3, padding=1, bias=False),
    bn("bn1"),
    {"type": "relu"},
    {"type": "max_pool", "kernel": 3, "stride": 2, "padding": 1},
    {
        "type": "residual",
        "name": "same",
        "layers": [conv("a", 6, 3, padding=1), bn("n", eps=1e-3, momentum=0.3), {"type": "relu"}, conv("b", 6, 1)],
    },
    {
        "type": "residual",
        "name": "down",
        "layers": [conv("a", 8, 3, padding=1, stride=2, bias=False), bn("n"), {"type": "relu"}],
    },
    {"type": "relu"},
    {"type": "global_avg_pool"},
    {"type": "flatten"},
    {"type": "dropout", "p": 0.25},
    linear("fc", 4),
]
MULTICLASS = {
    "task": "multiclass",
    "loss": {"kind": "cross_entropy", "label_smoothing": 0.1, "class_weights": [0.5, 2.0, 1.0, 1.5]},
}

DEPTHWISE = [
    conv("conv1", 4, [3, 1], padding=[1, 0], stride=[1, 2]),
    {"type": "silu"},
    conv("conv2", 8, 3, groups=4, dilation=[1, 2], padding=2),
    {"type": "gelu"},
    {"type": "avg_pool", "kernel": [3, 2], "stride": [2, 1], "padding": [1, 0]},
    {"type": "dropout", "p": 0.5},
    {"type": "flatten"},
    linear("fc1", 7, bias=False),
    bn("bn", momentum=0.2),
    {"type": "hard_swish"},
    {"type": "dropout", "p": 0.2},
    linear("fc2", 1),
]

LENET = [
    conv("conv1", 4, 5),
    {"type": "tanh"},
    {"type": "avg_pool", "kernel": 2},
    conv("conv2", 6, 3),
    {"type": "elu", "alpha": 0.5},
    {"type": "max_pool", "kernel": [2, 1]},
    {"type": "flatten"},
    linear("fc1", 9),
    {"type": "leaky_relu", "slope": 0.1},
    linear("fc2", 6),
    {"type": "softmax"},
    linear("fc3", 2),
]
VALUES = [[0.5, -1.0], [2.0, 0.25], [-0.75, 3.0]]

LABELS = [
    conv("conv1", 3, 2, stride=2),
    {"type": "relu6"},
    conv("conv2", 5, 2),
    {"type": "sigmoid"},
    {"type": "flatten"},
    linear("fc1", 8),
    {"type": "hard_sigmoid"},
    linear("fc2", 3),
]

CASES = [
    case("multiclass", MULTICLASS, RESNET, [9, 7, 3], [5, 0, 70000, 12, 1], [0, 3, 1, 1, 2]),
    case("frozen", MULTICLASS, RESNET, [9, 7, 3], [5, 0, 70000], [0, 3, 1], epoch=1, freeze_epochs=2),
    case("binary", {"task": "binary"}, DEPTHWISE, [6, 9, 1], [4, 2, 9, 1], [0, 1, 1, 0]),
    case("multilabel", {"task": "multilabel"}, LABELS, [7, 8, 1], [0, 1, 2], [[1, 0, 1], [0, 0, 0], [1, 1, 0]]),
    case("mse", {"task": "regression", "loss": {"kind": "mse"}}, LENET, [12, 13, 1], [0, 1, 2], VALUES),
    case("mae", {"task": "regression", "loss": {"kind": "mae"}}, LENET, [12, 13, 1], [0, 1, 2], VALUES),
    case(
        "huber", {"task": "regression", "loss": {"kind": "huber", "delta": 0.7}}, LENET, [12, 13, 1], [0, 1, 2], VALUES
    ),
]


def main():
    folder = pathlib.Path(sys.argv[1])
    torch.set_default_dtype(torch.float64)
    for index, given in enumerate(CASES):
        torch.manual_seed(index)
        text = json.dumps({**given, **compute(given)}, separators=(",", ":"))
        (folder / f"{given['name']}.json").write_text(text + "\n")


main()
