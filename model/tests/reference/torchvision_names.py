"""Writes names, shapes and initial values of torchvision's networks, in the order of their state_dict, to
torchvision_names.txt.

    python torchvision_names.py

One line per tensor: network, tensor, sides, then standard deviation about zero and largest magnitude of its values
before training (seed 0). Counters (num_batches_tracked) are left out. Made with torchvision 0.29.
"""

from pathlib import Path

import torch
import torchvision

NETWORKS = ["resnet18", "resnet34", "resnet50", "vgg11_bn", "mobilenet_v2"]

lines = []
for name in NETWORKS:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, num_classes=1000)
    for tensor, value in network.state_dict().items():
        if not tensor.endswith("num_batches_tracked"):
            sides = "x".join(map(str, value.shape))
            deviation = value.double().square().mean().sqrt()
            lines.append(f"{name} {tensor} {sides} {deviation:.4g} {value.abs().max():.4g}\n")
Path(__file__).with_name("torchvision_names.txt").write_text("".join(lines))
