"""The program of a network, for every target: steps in their order, and the place of each value in an arena of bytes.

``schedule`` makes a program of an integer model, ``arena`` places its values, ``interpret`` runs it there; ``target``
is what a program is compiled for. Nothing is imported here: configurations are read without the integer model.
"""
