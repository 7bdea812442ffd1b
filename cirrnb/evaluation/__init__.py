"""How good the answers are: patient-level metrics, each with its interval, beside chance, majority and ceiling; what
probabilities and sets of stages are worth; and whether one stager is better than another on the same patients."""
