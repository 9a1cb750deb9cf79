"""Song labels in the formats of others."""
