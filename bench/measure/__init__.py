"""What is measured of a delivered model."""
