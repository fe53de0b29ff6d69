"""A little package that extends videomae without editing it; docs/extending.md quotes its files."""
