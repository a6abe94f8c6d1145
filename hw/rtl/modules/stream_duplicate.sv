// One stream to two: every word of in0 leaves through out0 and through out1.
//
// WIDTH  bits of a word, whole bytes
//
// Each output has a handshake of its own, and takes a word when it is ready for it, whether the other one is or not;
// the next word comes in when both have taken the last one. Takes a word in every cycle. Outputs are registered.
module stream_duplicate #(
    parameter int unsigned WIDTH = 8
) (
    input logic ap_clk,
    input logic ap_rst_n,
    input logic [WIDTH-1:0] in0_V_TDATA,
    input logic in0_V_TVALID,
    output logic in0_V_TREADY,
    output logic [WIDTH-1:0] out0_V_TDATA,
    output logic out0_V_TVALID,
    input logic out0_V_TREADY,
    output logic [WIDTH-1:0] out1_V_TDATA,
    output logic out1_V_TVALID,
    input logic out1_V_TREADY
);
    logic [WIDTH-1:0] word;
    logic [1:0] waiting;  // which outputs have not taken the word
    wire [1:0] left = waiting & ~{out1_V_TREADY, out0_V_TREADY};

    assign in0_V_TREADY = left == '0;
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) waiting <= '0;
        else waiting <= in0_V_TREADY ? {2{in0_V_TVALID}} : left;
        if (in0_V_TREADY) word <= in0_V_TDATA;
    end
    assign {out1_V_TVALID, out0_V_TVALID} = waiting;
    assign out0_V_TDATA = word;
    assign out1_V_TDATA = word;
endmodule
