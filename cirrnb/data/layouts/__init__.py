"""How cohorts lie on disk: the published folders and tables, and people's own tables."""
