"""What became of the neurons and heads of one model in another of the same architecture; numpy alone, no model."""
