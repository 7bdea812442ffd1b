"""The network, from one slice to the stages: backbone, attention, slices, sequences, head."""
