"""Pretrained weights of timm's backbones: from the hub's cache, or from the Hugging Face hub, which is asked once.

timm and the hub's own client ask a hub that does not answer a dozen times, which takes most of a minute.
"""

from __future__ import annotations

from pathlib import Path

import requests
import timm
from huggingface_hub import constants, hf_hub_download, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from huggingface_hub.utils import build_hf_headers

FILE = "model.safetensors"
TIMEOUT = 10.0
"""Seconds after which the hub is taken for absent."""


def on_hub(backbone: str) -> str | None:
    """Where the hub has weights of a backbone (owner/name); None if timm fetches them from elsewhere or has none."""
    try:
        config = timm.get_pretrained_cfg(backbone)
    except RuntimeError:  # a model that timm has, with weights that it does not have
        return None
    return str(config.hf_hub_id) if config is not None and config.hf_hub_id else None


def cached(repository: str) -> Path | None:
    """The weights in the hub's cache, or None."""
    name, _, revision = repository.partition("@")
    try:
        return Path(hf_hub_download(name, FILE, revision=revision or None, local_files_only=True))
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return None


def asks_hub(backbone: str) -> bool:
    """True if the hub has to be asked for the weights of a backbone."""
    repository = on_hub(backbone)
    return repository is not None and cached(repository) is None and not constants.HF_HUB_OFFLINE


def fetched(repository: str) -> Path:
    """The weights in the cache; they are fetched there if need be. The hub is asked once.

    Raises OSError if the hub does not answer or has no such file.
    """
    if (path := cached(repository)) is not None:
        return path
    if constants.HF_HUB_OFFLINE:
        raise OSError("nothing in the hub's cache, and HF_HUB_OFFLINE is set")
    name, _, revision = repository.partition("@")
    url = hf_hub_url(name, FILE, revision=revision or None)
    headers = {str(key): str(value) for key, value in build_hf_headers().items()}
    answer = requests.head(url, headers=headers, timeout=TIMEOUT, allow_redirects=False)
    if answer.status_code >= 400:
        raise OSError(f"the hub answered {answer.status_code}")
    return Path(hf_hub_download(name, FILE, revision=revision or None))
