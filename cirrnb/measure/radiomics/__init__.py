"""Radiomics as the Image Biomarker Standardisation Initiative defines it, computed by MIRP (`cirrnb[radiomics]`)."""
