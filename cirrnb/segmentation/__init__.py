"""The network that finds the liver and its neighbours on any abdominal MR, its training, and the masks it draws."""
