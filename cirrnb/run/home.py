"""A home folder, which Jupyter asks for and bare containers lack."""

from __future__ import annotations

import os
from pathlib import Path

from cirrnb.data.errors import InputError


def require_home() -> None:
    """Raise InputError where neither HOME nor the system's accounts name a home folder for this user."""
    try:
        Path.home()
    except RuntimeError:
        user = f" for the user number {os.getuid()}" if hasattr(os, "getuid") else ""
        raise InputError(
            "environment",
            f"no home folder{user}: HOME is not set",
            "a home folder, for Jupyter's files",
            "Set it to a folder of your own that can be written: HOME=/path/to/folder cirrnb ...",
        ) from None
