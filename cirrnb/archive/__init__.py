"""DICOM studies in, DICOM results out: an inbox becomes a cohort, and a report goes back to where the images are."""
