"""Where an output folder lies: on a disk, in a bucket, in memory."""
