// The clock of the design, by a PLL of Gowin's GW2A: that of the board x FEEDBACK / INPUT.
//
// source  the board's clock
// clk     the clock
// locked  it is good
//
// INPUT     1..64   divides source; the quotient is 3..500 MHz
// FEEDBACK  1..64   multiplies it
// OUTPUT    2, 4, 8, 16, 32, 48, 64, 80, 96, 112 or 128; the oscillator runs at clk x OUTPUT: 500..1250 MHz
// SOURCE            frequency of source in MHz, as text
// DEVICE            name of the FPGA's family and size
//
// The values are checked where they are chosen (hw/synth/pll.py).
(* blackbox *)
module rPLL #(
    parameter FCLKIN = "27",
    parameter DEVICE = "GW2AR-18C",
    parameter IDIV_SEL = 0,
    parameter FBDIV_SEL = 0,
    parameter ODIV_SEL = 8,
    parameter DYN_IDIV_SEL = "false",
    parameter DYN_FBDIV_SEL = "false",
    parameter DYN_ODIV_SEL = "false",
    parameter DYN_DA_EN = "false",
    parameter DUTYDA_SEL = "1000",
    parameter PSDA_SEL = "0000",
    parameter CLKFB_SEL = "internal",
    parameter CLKOUT_BYPASS = "false",
    parameter CLKOUTP_BYPASS = "false",
    parameter CLKOUTD_BYPASS = "false",
    parameter DYN_SDIV_SEL = 2,
    parameter CLKOUTD_SRC = "CLKOUT",
    parameter CLKOUTD3_SRC = "CLKOUT"
) (
    input CLKIN, CLKFB, RESET, RESET_P,
    input [5:0] FBDSEL, IDSEL, ODSEL,
    input [3:0] DUTYDA, PSDA, FDLY,
    output CLKOUT, LOCK
);
endmodule

module gowin_pll #(
    parameter int INPUT = 3,
    parameter int FEEDBACK = 11,
    parameter int OUTPUT = 8,
    parameter SOURCE = "27",
    parameter DEVICE = "GW2AR-18C"
) (
    input logic source,
    output logic clk,
    output logic locked
);
    rPLL #(
        .FCLKIN(SOURCE), .DEVICE(DEVICE), .IDIV_SEL(INPUT - 1), .FBDIV_SEL(FEEDBACK - 1), .ODIV_SEL(OUTPUT)
    ) pll (
        .CLKIN(source), .CLKFB(1'b0), .RESET(1'b0), .RESET_P(1'b0), .FBDSEL(6'b0), .IDSEL(6'b0), .ODSEL(6'b0),
        .DUTYDA(4'b0), .PSDA(4'b0), .FDLY(4'b0), .CLKOUT(clk), .LOCK(locked)
    );
endmodule
