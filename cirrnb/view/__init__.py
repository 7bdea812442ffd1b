"""Figures. What they show is handed in; nothing here opens a path or trains a network."""
