"""From a file to axial slices of one form, kept in a folder and never made twice."""
