"""Download of a published data set: agreement to the licence, verified archives, safe unpacking."""

from typing import TYPE_CHECKING

from cirrnb.modules import module_of

if not TYPE_CHECKING:  # type checkers know the modules, and should tell of names that are none
    __getattr__ = module_of(__name__)
