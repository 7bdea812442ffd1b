"""The slice viewer in the browser, which explorer, reports and course share.

`panes` packs slices and maps at 8 bits. `viewer.js` shows them: `geometry.js` maps pixels to the patient, `painting.js`
draws a slice, `input.js` handles mouse, touch and keys, `controls.js` the buttons. `widget` and `widget.js` connect it
to a kernel; `slice_browser` and `unpack.js` write it into a page without one. `background` runs long work in a thread.
"""

from typing import TYPE_CHECKING

from cirrnb.modules import module_of

if not TYPE_CHECKING:  # type checkers know the modules, and should tell of names that are none
    __getattr__ = module_of(__name__)
