"""Image classifiers: settings, data, inputs, ensembles of networks, their training and measures, experiments."""
