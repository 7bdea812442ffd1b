"""Reports: what a page says of a patient as data, the pages rendered from it, and the report of a whole cohort."""

from typing import TYPE_CHECKING

from cirrnb.modules import module_of

if not TYPE_CHECKING:  # type checkers know the modules, and should tell of names that are none
    __getattr__ = module_of(__name__)
