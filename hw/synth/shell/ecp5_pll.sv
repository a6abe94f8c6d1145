// The clock of the design, by a PLL of ECP5: that of the board x FEEDBACK / INPUT.
//
// source  25 MHz or so, see INPUT
// clk     the clock, in phase with source
// locked  it is good
//
// INPUT     1..128  divides source; the quotient is 3.125..400 MHz
// FEEDBACK  1..128  multiplies it
// OUTPUT    1..128  divides the oscillator, which runs at clk x OUTPUT: 400..800 MHz
//
// The values are checked where they are chosen (hw/synth/pll.py).
(* blackbox *)
module EHXPLLL #(
    parameter CLKI_DIV = 1,
    parameter CLKFB_DIV = 1,
    parameter CLKOP_DIV = 8,
    parameter CLKOP_ENABLE = "ENABLED",
    parameter CLKOP_CPHASE = 0,
    parameter CLKOP_FPHASE = 0,
    parameter FEEDBK_PATH = "CLKOP",
    parameter INTFB_WAKE = "DISABLED",
    parameter STDBY_ENABLE = "DISABLED",
    parameter DPHASE_SOURCE = "DISABLED",
    parameter PLLRST_ENA = "DISABLED",
    parameter OUTDIVIDER_MUXA = "DIVA"
) (
    input CLKI, CLKFB, PHASESEL1, PHASESEL0, PHASEDIR, PHASESTEP, PHASELOADREG, STDBY, PLLWAKESYNC, RST, ENCLKOP,
    output CLKOP, LOCK
);
endmodule

module ecp5_pll #(
    parameter int INPUT = 1,
    parameter int FEEDBACK = 4,
    parameter int OUTPUT = 6
) (
    input logic source,
    output logic clk,
    output logic locked
);
    (* ICP_CURRENT = "12", LPF_RESISTOR = "8", MFG_ENABLE_FILTEROPAMP = "1", MFG_GMCREF_SEL = "2" *)
    EHXPLLL #(
        .CLKI_DIV(INPUT), .CLKFB_DIV(FEEDBACK), .CLKOP_DIV(OUTPUT), .CLKOP_CPHASE(OUTPUT / 2 - 1)
    ) pll (
        .CLKI(source), .CLKFB(clk), .CLKOP(clk), .LOCK(locked), .PHASESEL1(1'b0), .PHASESEL0(1'b0), .PHASEDIR(1'b0),
        .PHASESTEP(1'b0), .PHASELOADREG(1'b0), .STDBY(1'b0), .PLLWAKESYNC(1'b0), .RST(1'b0), .ENCLKOP(1'b0)
    );
endmodule
