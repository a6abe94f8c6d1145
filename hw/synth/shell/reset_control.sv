// The reset after the FPGA has been configured: 16 cycles after the clock is good, or once more when it was not.
//
// locked  the clock is good, in any phase to clk
// rst_n   0: reset
//
// Registers begin with 0 when the FPGA is configured.
module reset_control (
    input logic clk,
    input logic locked,
    output logic rst_n
);
    // verilator lint_off PROCASSINIT
    logic [1:0] settled = '0;  // there is no reset before this one
    logic [4:0] count = '0;
    // verilator lint_on PROCASSINIT
    assign rst_n = count[4];
    always_ff @(posedge clk) begin
        settled <= {settled[0], locked};
        if (!settled[1]) count <= '0;
        else if (!count[4]) count <= count + 1'b1;
    end
endmodule
