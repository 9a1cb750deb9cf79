"""From segments to a track's emotion."""
