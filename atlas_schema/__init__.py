"""The dataset: addresses, schemas, layout, reading, writing, validating."""
