// Models of the cells of Gowin's GW2A that Yosys ships without one, as far as its synthesis uses them.

// The clock as it comes: a simulation counts cycles of the design's clock.
module rPLL (
    input CLKIN, CLKFB, RESET, RESET_P,
    input [5:0] FBDSEL, IDSEL, ODSEL,
    input [3:0] DUTYDA, PSDA, FDLY,
    output CLKOUT, LOCK
);
    parameter FCLKIN = "27";
    parameter DEVICE = "GW2AR-18C";
    parameter IDIV_SEL = 0;
    parameter FBDIV_SEL = 0;
    parameter ODIV_SEL = 8;
    parameter DYN_IDIV_SEL = "false";
    parameter DYN_FBDIV_SEL = "false";
    parameter DYN_ODIV_SEL = "false";
    parameter DYN_DA_EN = "false";
    parameter DUTYDA_SEL = "1000";
    parameter PSDA_SEL = "0000";
    parameter CLKFB_SEL = "internal";
    parameter CLKOUT_BYPASS = "false";
    parameter CLKOUTP_BYPASS = "false";
    parameter CLKOUTD_BYPASS = "false";
    parameter DYN_SDIV_SEL = 2;
    parameter CLKOUTD_SRC = "CLKOUT";
    parameter CLKOUTD3_SRC = "CLKOUT";
    assign CLKOUT = CLKIN;
    assign LOCK = 1'b1;
endmodule
