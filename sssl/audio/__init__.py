"""From a file to segments: containers, decoding, integrity, log-mel, sound statistics."""
