"""The explorer: one patient's slices, then the stage and its explanation.

`explorer` reacts to the reader, `panel` lays out controls, pictures and charts, `upload` receives scans by drag and
drop. The pictures themselves are those of `cirrnb.viewer`.
"""
