"""Image classifiers: settings, data, inputs, ensembles, training, measures, experiments."""
