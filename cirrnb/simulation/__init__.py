"""A simulated cohort in the published layout: anatomy, signs, MR signal, files."""
