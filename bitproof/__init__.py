"""bitproof: from a training script to an FPGA or a microcontroller with the same integers at every stage."""
