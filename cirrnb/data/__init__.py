"""The cohort on disk and what is read from it: scans, splits, preparation, patients' bags of slices."""
