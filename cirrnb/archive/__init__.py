"""DICOM studies in, DICOM results out: an inbox becomes a cohort, and a report goes back to where the images are."""

from typing import TYPE_CHECKING

from cirrnb.modules import module_of

if not TYPE_CHECKING:  # type checkers know the modules, and should tell of names that are none
    __getattr__ = module_of(__name__)
