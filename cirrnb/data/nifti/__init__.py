"""Opening NIfTI files that come from anywhere: bytes, header, voxels."""
