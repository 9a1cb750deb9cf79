"""Methods compared by cross-validation, against planted and annotated sections."""
