"""Pages, plots and stories about what was published."""
