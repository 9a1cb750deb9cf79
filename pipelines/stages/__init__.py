"""One file per stage: what `sssl run` does in order, each a command of its own."""
