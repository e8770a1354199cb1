"""Language models: the tiny Llamas, their world, token entanglement, interventions, lists of numbers."""
