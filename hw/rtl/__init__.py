"""RTL as a chain of AXI-Streams: its description, its top, the test bench, and their simulation by Verilator."""
