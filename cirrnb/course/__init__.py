"""The course: slices with a sign to switch on and off, exercises with feedback, and a staging quiz."""
