"""Labels: texts, the model that compares them with images, and which text describes a neuron best."""
