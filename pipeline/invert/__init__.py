"""Inversion: pictures made from noise of what a class, a text or a head looks like; recipes say how they are made.

| module | what it says |
| --- | --- |
| `recipes` | the settings of a way to invert, as data: `fast` (ours), `pii` and `clip-inversion` (as published) |
| `targets` | what is inverted: classes of a classifier, texts of a CLIP; which outputs compete with one another |
| `ascent` | from targets to pictures, many targets at a time |
| `heads`, `head_judge` | what heads look like: directions of what they add, and what the pictures reach |
| `judge` | what the model itself makes of a finished picture, as it is and under natural changes |
| `transfer` | what other models make of it, and of real images of the same class |
"""
