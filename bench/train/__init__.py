"""Training: one engine for the teacher, the plain student and every method."""
