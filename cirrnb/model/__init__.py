"""From a patient's slices to stage probabilities: the stager, its training, prediction and files."""
