"""Liver masks that a program drew where nobody has: called outside, marked as such, and doubted where odd."""
