"""Visualization: an image that activates a neuron, by gradient ascent; the recipes say how."""
