// The channels of two streams, pixel by pixel: those of in0, then those of in1.
//
// in0, in1  IN0_WORDS and IN1_WORDS words of PE codes for each pixel.
// out0      IN0_WORDS + IN1_WORDS words of PE codes for each pixel, of a type that holds both.
//
// PE                    >= 1  channels in a word
// IN0_WORDS, IN1_WORDS  >= 1  words of a pixel: channels / PE
// IN0_BITS, IN0_SIGNED, IN1_BITS, IN1_SIGNED  of the codes
// OUT_BITS                    of a code of the output
//
// Gives a word in every cycle. The output is registered.
module stream_concat #(
    parameter int unsigned PE = 1,
    parameter int unsigned IN0_WORDS = 1,
    parameter int unsigned IN1_WORDS = 1,
    parameter int unsigned IN0_BITS = 8,
    parameter bit IN0_SIGNED = 0,
    parameter int unsigned IN1_BITS = 8,
    parameter bit IN1_SIGNED = 0,
    parameter int unsigned OUT_BITS = 8,
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
    localparam int unsigned WORD_BITS = $clog2(IN0_WORDS + IN1_WORDS);

    logic [WORD_BITS-1:0] position;
    logic second;  // the word comes from in1
    logic valid;
    wire advance = !valid || out0_V_TREADY;
    wire offered = second ? in1_V_TVALID : in0_V_TVALID;
    wire last = position == WORD_BITS'(IN0_WORDS + IN1_WORDS - 1);

    assign in0_V_TREADY = advance && !second;
    assign in1_V_TREADY = advance && second;
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) begin
            position <= '0;
            second <= 1'b0;
            valid <= 1'b0;
        end else if (advance) begin
            valid <= offered;
            if (offered) begin
                position <= last ? '0 : position + 1'b1;
                if (last) second <= 1'b0;
                else if (position == WORD_BITS'(IN0_WORDS - 1)) second <= 1'b1;
            end
        end
    end

    logic [PE-1:0][OUT_BITS-1:0] codes;
    for (genvar lane = 0; lane < PE; lane++) begin : lanes
        wire [IN0_BITS-1:0] one = in0_V_TDATA[lane*IN0_BITS+:IN0_BITS];
        wire [IN1_BITS-1:0] other = in1_V_TDATA[lane*IN1_BITS+:IN1_BITS];
        wire [OUT_BITS-1:0] one_wide = IN0_SIGNED ? OUT_BITS'($signed(one)) : OUT_BITS'(one);
        wire [OUT_BITS-1:0] other_wide = IN1_SIGNED ? OUT_BITS'($signed(other)) : OUT_BITS'(other);
        always_ff @(posedge ap_clk) if (advance) codes[lane] <= second ? other_wide : one_wide;
    end
    assign out0_V_TVALID = valid;
    assign out0_V_TDATA = OUT_WIDTH'(codes);
endmodule
