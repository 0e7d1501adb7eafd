"""Shows that networks go both ways between Convoy and torchvision with the same outputs.

    python torchvision_exchange.py MODEL_DIR CHECK.safetensors

loads the model folder that Convoy wrote strictly into torchvision and compares outputs. CHECK holds `x_nhwc`
([samples, height, width, channels], as the network sees them) and the `logits` that Convoy computed for them
([samples, outputs]). Ends with 0 if they agree, with 1 if not, with 2 if the model cannot be loaded.

    python torchvision_exchange.py --export ARCHITECTURE OUT.safetensors [--size 64] [--classes 10] [--seed 0]

writes the weights of a torchvision network with random parameters and running statistics to OUT.safetensors, and
`x_nhwc` and `logits` for it to OUT.check.safetensors, for Convoy to start from and to compare with.

Outputs agree when no difference is above 1e-4 times the largest logit, or 1e-4 if all logits are below 1.
Needs torch, torchvision and safetensors.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-4


def outputs(network, x_nhwc):
    """Logits of samples in NHWC, in evaluation mode."""
    network.eval()
    with torch.no_grad():
        return network(x_nhwc.permute(0, 3, 1, 2).contiguous())


def compare(model_dir, check_file):
    config = json.loads((model_dir / "config.json").read_text())
    architecture = config["architecture"]
    if architecture.startswith("convoy/"):
        print(f"{architecture} is not a network of torchvision")
        return 2
    channels = config["pretrained_cfg"]["input_size"][0]
    if channels != 3:
        print(f"torchvision's {architecture} has 3 input channels, this model has {channels}")
        return 2
    network = torchvision.models.get_model(architecture, num_classes=config["num_classes"])
    network.load_state_dict(load_file(model_dir / "model.safetensors"), strict=True)

    check = load_file(check_file)
    logits = check["logits"]
    expected = outputs(network, check["x_nhwc"])
    if logits.shape != expected.shape:
        print(f"logits are of shape {list(logits.shape)}, torchvision's of {list(expected.shape)}")
        return 1
    difference = (logits - expected).abs().max().item()
    bound = TOLERANCE * max(1.0, expected.abs().max().item())
    # Written so that a NaN does not agree.
    agree = difference <= bound
    print(f"{architecture}: largest difference {difference:.3g}, allowed {bound:.3g}: {'agrees' if agree else 'DIFFERS'}")
    return 0 if agree else 1


def export(architecture, out, size, classes, seed):
    torch.manual_seed(seed)
    network = torchvision.models.get_model(architecture, num_classes=classes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.0, 0.1)
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    x_nhwc = torch.randn(2, size, size, 3)
    logits = outputs(network, x_nhwc)
    check = out.with_suffix(".check.safetensors")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, out)
    save_file({"x_nhwc": x_nhwc.contiguous(), "logits": logits.contiguous()}, check)
    print(f"{architecture} with {classes} outputs: weights in {out}, input and logits in {check}")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", action="store_true", help="write a torchvision network instead of reading one")
    parser.add_argument("--size", type=int, default=64, help="height and width of the samples of --export")
    parser.add_argument("--classes", type=int, default=10, help="outputs of the network of --export")
    parser.add_argument("--seed", type=int, default=0, help="seed of --export")
    parser.add_argument("what", help="model folder, or torchvision's name of a network")
    parser.add_argument("file", type=Path, help="safetensors file")
    arguments = parser.parse_args()
    if arguments.export:
        return export(arguments.what, arguments.file, arguments.size, arguments.classes, arguments.seed)
    return compare(Path(arguments.what), arguments.file)


if __name__ == "__main__":
    sys.exit(main())
