"""How good the answers are: patient-level metrics, each with its interval, beside chance and majority."""
