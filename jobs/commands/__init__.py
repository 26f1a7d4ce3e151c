"""The commands of `neuron-atlas`, one module a group; heavy imports inside the functions."""
