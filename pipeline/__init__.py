"""The science: models, visualization, the zoo. Plain functions on models, tensors and devices."""
