"""The science of the book, in rooms; each imports only from rooms to its left, and within a room only to the left.

core: rng > machine > store
nets: settings > data > noise > inputs > models > ensemble > training > measures > jobs > experiment
lm: prompts > corpus > tiny > model > entanglement > interventions > numbers
theory > stats
report: figures > notebook
explorers: base > widgets > noisebench > partners
"""
