"""The science of the book, in rooms.

A room imports only from those named before it, and nets and lm never meet; within a room, a
module imports only from modules to its left.

core: rng > memory > machine > cluster > store
nets: settings > data > noise > inputs > models > ensemble > training > measures > jobs >
  experiment > similarity > deviation > pictures > convolution >
  heads > vision > capable > gradients >
  updates > traits
lm: prompts > corpus > tiny > model > pretrained >
  entanglement > interventions > numbers > digit_lists > ten_digits > digit_numbers
theory > stats
report: figures > scorecard > notebook
explorers: base > widgets > language > parts
"""
