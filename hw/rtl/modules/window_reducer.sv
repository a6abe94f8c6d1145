// The largest code of each window, or the sum of its codes, channel by channel: max pooling and average pooling.
//
// in0   TAPS words of PE codes for each output word, one tap of the window in each: what FINN's depthwise sliding
//       window (ConvolutionInputGenerator) sends, groups of PE channels outside and taps inside.
// out0  the largest code or the sum of each of the PE channels, one word for TAPS words of in0.
//
// PE        >= 1  channels in a word
// TAPS      >= 1  taps of a window
// IN_BITS   >= 1  width of a code
// SIGNED          1: codes and outputs are in two's complement, 0: unsigned
// SUM             0: the largest code, 1: the sum
// OUT_BITS        IN_BITS for the largest code; for the sum, a width that holds every sum: the arithmetic wraps
//
// Takes a word in every cycle. The register that gathers a window is the output register: the next window begins in the
// cycle in which the result of the last one is taken.
module window_reducer #(
    parameter int unsigned PE = 1,
    parameter int unsigned TAPS = 4,
    parameter int unsigned IN_BITS = 8,
    parameter bit SIGNED = 0,
    parameter bit SUM = 0,
    parameter int unsigned OUT_BITS = IN_BITS,
    localparam int unsigned IN_WIDTH = (PE * IN_BITS + 7) / 8 * 8,
    localparam int unsigned OUT_WIDTH = (PE * OUT_BITS + 7) / 8 * 8
) (
    input logic ap_clk,
    input logic ap_rst_n,
    // verilator lint_off UNUSEDSIGNAL
    input logic [IN_WIDTH-1:0] in0_V_TDATA,  // its padding is not read
    // verilator lint_on UNUSEDSIGNAL
    input logic in0_V_TVALID,
    output logic in0_V_TREADY,
    output logic [OUT_WIDTH-1:0] out0_V_TDATA,
    output logic out0_V_TVALID,
    input logic out0_V_TREADY
);
    localparam int unsigned TAP_BITS = TAPS > 1 ? $clog2(TAPS) : 1;

    logic [TAP_BITS-1:0] tap;
    logic [PE-1:0][OUT_BITS-1:0] reduced;
    logic valid;
    wire first = tap == '0;
    wire last = tap == TAP_BITS'(TAPS - 1);
    wire take = in0_V_TVALID && in0_V_TREADY;

    assign in0_V_TREADY = !valid || out0_V_TREADY;
    assign out0_V_TVALID = valid;
    assign out0_V_TDATA = OUT_WIDTH'(reduced);

    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) begin
            tap <= '0;
            valid <= 1'b0;
        end else begin
            if (in0_V_TREADY) valid <= take && last;
            if (take) tap <= last ? '0 : tap + 1'b1;
        end
    end

    for (genvar lane = 0; lane < PE; lane++) begin : lanes
        wire [IN_BITS-1:0] code = in0_V_TDATA[lane*IN_BITS+:IN_BITS];
        wire [OUT_BITS-1:0] widened = SIGNED ? OUT_BITS'($signed(code)) : OUT_BITS'(code);
        wire larger = SIGNED ? $signed(widened) > $signed(reduced[lane]) : widened > reduced[lane];

        always_ff @(posedge ap_clk) begin
            if (take) begin
                if (first) reduced[lane] <= widened;
                else if (SUM) reduced[lane] <= reduced[lane] + widened;
                else if (larger) reduced[lane] <= widened;
            end
        end
    end
endmodule
