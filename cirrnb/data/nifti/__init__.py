"""Reading and writing NIfTI files; files from any source are read safely."""
