"""What containers say of their length, and where in a file they begin and end."""
