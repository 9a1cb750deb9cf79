"""The catalog: read from what a team has, assigned to parts, splits and folds, planned."""
