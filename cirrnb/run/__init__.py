"""Executing notebooks: strict parameters, pages that open offline, provenance."""
