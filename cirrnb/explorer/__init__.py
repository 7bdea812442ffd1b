"""The explorer: one patient's slices, then the stage and its explanation.

`explorer` reacts to the reader, `panel` lays out controls, pictures and charts, `upload` receives scans by drag and
drop. The pictures themselves are those of `cirrnb.viewer`.
"""

from typing import TYPE_CHECKING

from cirrnb.modules import module_of

if not TYPE_CHECKING:  # type checkers know the modules, and should tell of names that are none
    __getattr__ = module_of(__name__)
