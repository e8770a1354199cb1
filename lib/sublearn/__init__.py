"""The science of the book, to be read in this order; each module imports only names to its left.

seeds > settings > data > inputs > ensemble > training > measure > theory > cache > experiment
> stats > figures > notebook
"""
