"""Dataset in, static site out."""
