"""Stages told from numbers alone: the classifiers that a network has to beat."""
