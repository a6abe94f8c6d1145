"""A PYNQ board on a PC: the module ``pynq`` with what a driver uses of it, and a fabric that Verilator simulates."""
