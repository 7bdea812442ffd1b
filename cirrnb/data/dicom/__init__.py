"""DICOM folders: what series lie in them, which are T1W and T2W, and how they become NIfTI without anybody's name."""
