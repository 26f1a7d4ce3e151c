"""What a pass over real images says about neurons: accumulators with update, merge and finalize.

`measure.py` reduces a batch of hidden activations to a few numbers per image and neuron; the accumulators
(`moments`, `sketch`, `top`, `panel`, `classes`) sum them up; `model.py` runs a model with all of them at once;
`evidence.py` turns the sums into rows of the dataset.
"""
