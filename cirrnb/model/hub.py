"""Models from the Hugging Face hub: `hf:owner/name`, or `hf:owner/name@revision` for one that stays the same."""

from __future__ import annotations

import re
from pathlib import Path

from cirrnb.data.errors import InputError

PREFIX = "hf:"
FILES = ("*.json", "*.safetensors", "*.csv", "*.md")
"""Files that are fetched; nothing among them runs code."""

_NAME = re.compile(r"hf:(?P<repository>[\w.-]{1,96}/[\w.-]{1,96})(?:@(?P<revision>[\w./-]{1,100}))?")


def is_hub_name(run: Path | str) -> bool:
    """True for text that names a model on the hub."""
    return isinstance(run, str) and run.startswith(PREFIX)


def fetch_model(name: str) -> Path:
    """Folder of a model on the hub, fetched into the hub's cache unless it lies there; without net the cache is used.

    The server is that of `HF_ENDPOINT`, the cache that of `HF_HOME`; a private model needs `HF_TOKEN`, which is never
    written anywhere.

    Raises InputError for a name that is none, a model that does not exist, or a server that cannot be reached while
    nothing lies in the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(
            name, "no name of a model on the hub", "hf:owner/name or hf:owner/name@revision", "Correct it."
        )
    try:
        found = snapshot_download(match["repository"], revision=match["revision"], allow_patterns=list(FILES))
    except HFValidationError as error:
        raise InputError(name, f"a name that the hub refuses ({error})", "hf:owner/name", "Correct it.") from error
    except LocalEntryNotFoundError as error:
        raise InputError(
            name, "no answer of the hub, and nothing in the cache", "a network", "Try again, or give a folder."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise InputError(
            name,
            f"nothing that can be fetched ({status})",
            "a model that exists, and HF_TOKEN for a private one",
            "Correct the name, or give a folder.",
        ) from error
    return Path(found)
