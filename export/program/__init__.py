"""How a network is run, for every target."""
