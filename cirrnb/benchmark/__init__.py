"""What trains and scores everything: the ablation and the baselines of 04_ablation."""
