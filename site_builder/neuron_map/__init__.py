"""All neurons on a plane by what they fire on: features, layout, and the files that a browser draws it from."""
