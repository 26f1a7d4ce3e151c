"""What people ask of a decomposed model: retrieval, spurious features, segmentation, heat of a text."""
