"""Language models: tiny Llamas and their world, entanglement, interventions, numbers."""
