"""The part of the report that a reader sorts, searches and filters: songs, their groups, their
plane, what changed."""
