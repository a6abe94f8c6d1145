// Codes of accumulators by a shift that rounds to the nearest integer: (acc + B) / 2^SHIFT, within LOW..HIGH.
//
// in0   words of PE accumulators, FOLDS words for all channels of a pixel.
// out0  words of PE codes, signed if LOW < 0.
//
// PE               >= 1  channels in a word
// FOLDS            >= 1  words of a pixel: channels / PE
// IN_BITS, SIGNED        of an accumulator
// OFFSET_BITS            of B, in two's complement
// SUM_BITS               holds every acc + B and that plus 2^(SHIFT - 1), in two's complement; at least OFFSET_BITS and
//                        IN_BITS, more than SHIFT
// SHIFT            >= 1
// TIES                   0: a tie goes up, 1: to the even code, 2: to the odd code
// OUT_BITS, LOW, HIGH    see saturator
// OFFSETS_FILE           FOLDS words of PE constants, that of the first channel in the lowest bits
//
// Takes a word in every cycle. All stages move together; the last register of the pipeline is the output register.
module rounding_shift #(
    parameter int unsigned PE = 1,
    parameter int unsigned FOLDS = 1,
    parameter int unsigned IN_BITS = 16,
    parameter bit SIGNED = 1,
    parameter int unsigned OFFSET_BITS = 16,
    parameter int unsigned SUM_BITS = 18,
    parameter int unsigned SHIFT = 8,
    parameter int unsigned TIES = 1,
    parameter int unsigned OUT_BITS = 8,
    parameter int LOW = 0,
    parameter int HIGH = 255,
    parameter OFFSETS_FILE = "",
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
    localparam int unsigned ADDRESS_BITS = FOLDS > 1 ? $clog2(FOLDS) : 1;
    localparam logic signed [SUM_BITS-1:0] HALF = SUM_BITS'(1) <<< (SHIFT - 1);

    wire advance = !out0_V_TVALID || out0_V_TREADY;
    wire take = in0_V_TVALID && advance;
    assign in0_V_TREADY = advance;

    logic [ADDRESS_BITS-1:0] fold;
    logic [3:0] active;  // stages: offset, sum, rounded, code
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) begin
            fold <= '0;
            active <= '0;
        end else begin
            if (take) fold <= fold == ADDRESS_BITS'(FOLDS - 1) ? '0 : fold + 1'b1;
            if (advance) active <= {active[2:0], take};
        end
    end

    logic [PE-1:0][IN_BITS-1:0] accumulators;
    wire [PE-1:0][OFFSET_BITS-1:0] offsets;
    always_ff @(posedge ap_clk) if (advance) accumulators <= in0_V_TDATA[PE*IN_BITS-1:0];
    constant_rom #(
        .WIDTH(PE * OFFSET_BITS), .DEPTH(FOLDS), .FILE(OFFSETS_FILE)
    ) offset_memory (
        .clk(ap_clk), .enable(advance), .address(fold), .word(offsets)
    );

    logic [PE-1:0][OUT_BITS-1:0] codes;
    for (genvar lane = 0; lane < PE; lane++) begin : lanes
        wire signed [SUM_BITS-1:0] accumulator =
            SIGNED ? SUM_BITS'($signed(accumulators[lane])) : SUM_BITS'(accumulators[lane]);
        wire signed [SUM_BITS-1:0] offset = SUM_BITS'($signed(offsets[lane]));
        logic signed [SUM_BITS-1:0] sum;
        logic signed [SUM_BITS-1:0] rounded;
        // A tie goes up if half of the divisor is added, and down with one less.
        wire up = TIES == 0 ? 1'b1 : sum[SHIFT] ^ (TIES == 2);
        wire [OUT_BITS-1:0] code;
        saturator #(
            .IN_BITS(SUM_BITS - SHIFT), .OUT_BITS(OUT_BITS), .LOW(LOW), .HIGH(HIGH)
        ) limits (
            .integer_in(rounded[SUM_BITS-1:SHIFT]), .code(code)
        );
        always_ff @(posedge ap_clk) begin
            if (advance) begin
                sum <= accumulator + offset;
                rounded <= sum + (up ? HALF : HALF - SUM_BITS'(1));
                codes[lane] <= code;
            end
        end
        wire unused = &{1'b0, rounded[SHIFT-1:0]};
    end
    assign out0_V_TVALID = active[3];
    assign out0_V_TDATA = OUT_WIDTH'(codes);
endmodule
