"""Import of DICOM folders: listing series, choosing T1W and T2W, conversion to NIfTI without identifying data."""
