"""Numbers from an image and a mask: what a radiologist measures, and what radiomics adds. Knows no networks."""
