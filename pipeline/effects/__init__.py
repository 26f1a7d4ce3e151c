"""Effects: what a neuron writes to the output, and what the output loses when the neuron is ablated."""
