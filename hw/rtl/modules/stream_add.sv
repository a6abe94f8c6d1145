// The sum of two streams, element by element.
//
// in0, in1  words of PE codes; a word of each is taken at once.
// out0      words of PE sums, in two's complement or unsigned as the codes are: signed if one of them is.
//
// PE                              >= 1  elements in a word
// IN0_BITS, IN0_SIGNED, IN1_BITS, IN1_SIGNED  of the codes
// OUT_BITS                              holds every sum: the arithmetic wraps
//
// Takes a word of each in every cycle. The output is registered.
module stream_add #(
    parameter int unsigned PE = 1,
    parameter int unsigned IN0_BITS = 8,
    parameter bit IN0_SIGNED = 0,
    parameter int unsigned IN1_BITS = 8,
    parameter bit IN1_SIGNED = 0,
    parameter int unsigned OUT_BITS = 9,
    localparam int unsigned IN0_WIDTH = (PE * IN0_BITS + 7) / 8 * 8,
    localparam int unsigned IN1_WIDTH = (PE * IN1_BITS + 7) / 8 * 8,
    localparam int unsigned OUT_WIDTH = (PE * OUT_BITS + 7) / 8 * 8
) (
    input logic ap_clk,
    input logic ap_rst_n,
    // verilator lint_off UNUSEDSIGNAL
    input logic [IN0_WIDTH-1:0] in0_V_TDATA,  // their padding is not read
    input logic [IN1_WIDTH-1:0] in1_V_TDATA,
    // verilator lint_on UNUSEDSIGNAL
    input logic in0_V_TVALID,
    output logic in0_V_TREADY,
    input logic in1_V_TVALID,
    output logic in1_V_TREADY,
    output logic [OUT_WIDTH-1:0] out0_V_TDATA,
    output logic out0_V_TVALID,
    input logic out0_V_TREADY
);
    logic valid;
    wire advance = !valid || out0_V_TREADY;
    assign in0_V_TREADY = advance && in1_V_TVALID;
    assign in1_V_TREADY = advance && in0_V_TVALID;
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) valid <= 1'b0;
        else if (advance) valid <= in0_V_TVALID && in1_V_TVALID;
    end

    logic [PE-1:0][OUT_BITS-1:0] sums;
    for (genvar lane = 0; lane < PE; lane++) begin : lanes
        wire [IN0_BITS-1:0] one = in0_V_TDATA[lane*IN0_BITS+:IN0_BITS];
        wire [IN1_BITS-1:0] other = in1_V_TDATA[lane*IN1_BITS+:IN1_BITS];
        wire [OUT_BITS-1:0] one_wide = IN0_SIGNED ? OUT_BITS'($signed(one)) : OUT_BITS'(one);
        wire [OUT_BITS-1:0] other_wide = IN1_SIGNED ? OUT_BITS'($signed(other)) : OUT_BITS'(other);
        always_ff @(posedge ap_clk) if (advance) sums[lane] <= one_wide + other_wide;
    end
    assign out0_V_TVALID = valid;
    assign out0_V_TDATA = OUT_WIDTH'(sums);
endmodule
