"""The science of the book, to be read in this order; each module imports only names to its left.

seeds > settings > machine > data > families > inputs > ensemble > training > measure > theory
> cache > prompts > corpus > reading > tinyllama > tokens > entanglement > surgery > numberlists > lessons
> store > cohort > experiment > stats > figures > embed > explorers > noisebench > partners > notebook
"""
