"""The science of the book, to be read in this order; each module imports only names to its left.

seeds > settings > machine > data > inputs > ensemble > training > measure > theory > cache > prompts > corpus
> tinyllama > tokens > entanglement > surgery > numberlists > lessons > store > experiment > stats > figures > notebook
"""
