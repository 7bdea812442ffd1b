"""Reports of a whole cohort, unattended: a page a patient, an index, and tables of what was made and what was not."""
