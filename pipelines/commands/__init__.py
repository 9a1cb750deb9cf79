"""Commands around the stages."""
