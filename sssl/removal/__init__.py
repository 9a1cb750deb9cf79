"""What goes from an output folder: tracks that are taken down, old generations, and files that
nothing published needs."""
