"""Pictures for people: heat over an image, sheets of images."""
