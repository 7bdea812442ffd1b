"""A Dask scheduler, whose workers do jobs in place of this machine's processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cirrnb.data.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

_PATIENCE = 10
"""Seconds a scheduler has to answer."""


def connect(address: str) -> Client:
    """A client of the scheduler at `address` ("tcp://..."). Raises InputError where Dask is missing or nobody answers.

    Whoever reaches a scheduler can run code on it: bind it to 127.0.0.1 or to a network you trust.
    """
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            f"cluster {address}", "no Dask", "the extra [cluster]", "Install it: pip install distributed."
        ) from None
    try:
        client: Any = Client(address, timeout=_PATIENCE)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cluster {address}",
            f"nobody who answers ({type(error).__name__})",
            "a Dask scheduler",
            "Start one with `dask scheduler` and name the address it prints.",
        ) from None
    return client
