"""How sure a stager may be: probabilities, sets of stages, and scans it should not be asked about."""
