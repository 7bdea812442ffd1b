"""The cohort on disk and what is read from it: scans, splits, preparation, patients' bags of slices."""

from typing import TYPE_CHECKING

from cirrnb.modules import module_of

if not TYPE_CHECKING:  # type checkers know the modules, and should tell of names that are none
    __getattr__ = module_of(__name__)
