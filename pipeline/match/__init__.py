"""Counterparts: which neurons of two models fire on the same places of the same images."""
