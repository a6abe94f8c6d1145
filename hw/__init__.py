"""Hardware back-ends: FINN RTL in Verilator, C for microcontrollers in QEMU."""
