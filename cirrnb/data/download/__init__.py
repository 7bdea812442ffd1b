"""Download of a published data set: agreement to the licence, verified archives, safe unpacking."""
