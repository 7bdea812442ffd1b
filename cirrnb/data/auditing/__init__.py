"""What is in a cohort and what is wrong with it, every file read once."""
