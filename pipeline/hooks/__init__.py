"""Hooks: read activations in a forward pass, freeze norms and attention; handles are always removed."""
