"""How good the answers are: patient-level metrics, each with its interval, beside chance, majority and ceiling; what
probabilities and sets of stages are worth; and whether one stager is better than another on the same patients."""

from typing import TYPE_CHECKING

from cirrnb.modules import module_of

if not TYPE_CHECKING:  # type checkers know the modules, and should tell of names that are none
    __getattr__ = module_of(__name__)
