"""Why this stage: attributions of the whole patient through Captum, and how far each of them can be believed."""
