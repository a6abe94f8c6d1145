"""Bitstreams for open FPGAs: Yosys, nextpnr and the packers of Lattice ECP5 and Gowin, all from Python packages."""
