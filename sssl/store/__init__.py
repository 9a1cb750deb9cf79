"""The output folder: files written once, manifests that commit them, the pointer that readers
follow."""
