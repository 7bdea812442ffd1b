"""The explorer: one patient's slices, the answer and what drove it, in a notebook, on a page of its own, in a report.

`pictures` packs slices and maps at 8 bits, `viewer.js` shows them in any browser (`places` knows where a pixel lies,
`painting` how a slice is drawn, `hands` what mouse, fingers and keys do, `controls` the buttons around), `canvas` and
`widget.js` connect it to a kernel, `browser` and `unpack.js` put it into a file without one. `explorer` puts canvas,
charts, controls and words together; `words` says what the numbers mean, `work` does what takes time, `preferences`
remembers what a reader chose.
"""
