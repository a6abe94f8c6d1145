// Codes of accumulators by multiplication and shift: (acc * M + B) >>> SHIFT, within LOW..HIGH. The shift rounds down; a
// half in B makes it round halves up.
//
// in0   words of PE accumulators, FOLDS words for all channels of a pixel.
// out0  words of PE codes, signed if LOW < 0.
//
// PE               >= 1  channels in a word
// FOLDS            >= 1  words of a pixel: channels / PE
// IN_BITS, SIGNED        of an accumulator
// MULTIPLIER_BITS        of M, unsigned
// OFFSET_BITS            of B, in two's complement
// SUM_BITS               holds every acc * M + B, in two's complement; at least OFFSET_BITS, more than SHIFT
// SHIFT            >= 0
// OUT_BITS, LOW, HIGH    see saturator
// MULTIPLIERS_FILE, OFFSETS_FILE  FOLDS words of PE constants, that of the first channel in the lowest bits
//
// Takes a word in every cycle. All stages move together; the last register of the pipeline is the output register.
module multiply_shift #(
    parameter int unsigned PE = 1,
    parameter int unsigned FOLDS = 1,
    parameter int unsigned IN_BITS = 16,
    parameter bit SIGNED = 1,
    parameter int unsigned MULTIPLIER_BITS = 8,
    parameter int unsigned OFFSET_BITS = 16,
    parameter int unsigned SUM_BITS = 26,
    parameter int unsigned SHIFT = 8,
    parameter int unsigned OUT_BITS = 8,
    parameter int LOW = 0,
    parameter int HIGH = 255,
    parameter MULTIPLIERS_FILE = "",
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
    localparam int unsigned WHOLE_BITS = IN_BITS + MULTIPLIER_BITS + 1;
    localparam int unsigned PRODUCT_BITS = WHOLE_BITS < SUM_BITS ? WHOLE_BITS : SUM_BITS;

    wire advance = !out0_V_TVALID || out0_V_TREADY;
    wire take = in0_V_TVALID && advance;
    assign in0_V_TREADY = advance;

    logic [ADDRESS_BITS-1:0] fold;
    logic [3:0] active;  // stages: constants, product, sum, code
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) begin
            fold <= '0;
            active <= '0;
        end else begin
            if (take) fold <= fold == ADDRESS_BITS'(FOLDS - 1) ? '0 : fold + 1'b1;
            if (advance) active <= {active[2:0], take};
        end
    end

    // verilator lint_off UNUSEDSIGNAL
    logic [PE-1:0][IN_BITS-1:0] accumulators;  // the stream may be wider than what is reached
    // verilator lint_on UNUSEDSIGNAL
    wire [PE-1:0][MULTIPLIER_BITS-1:0] multipliers;
    wire [PE-1:0][OFFSET_BITS-1:0] offsets;
    always_ff @(posedge ap_clk) if (advance) accumulators <= in0_V_TDATA[PE*IN_BITS-1:0];
    constant_rom #(
        .WIDTH(PE * MULTIPLIER_BITS), .DEPTH(FOLDS), .FILE(MULTIPLIERS_FILE)
    ) multiplier_memory (
        .clk(ap_clk), .enable(advance), .address(fold), .word(multipliers)
    );
    constant_rom #(
        .WIDTH(PE * OFFSET_BITS), .DEPTH(FOLDS), .FILE(OFFSETS_FILE)
    ) offset_memory (
        .clk(ap_clk), .enable(advance), .address(fold), .word(offsets)
    );

    logic [PE-1:0][OUT_BITS-1:0] codes;
    for (genvar lane = 0; lane < PE; lane++) begin : lanes
        wire signed [PRODUCT_BITS-1:0] accumulator =
            SIGNED ? PRODUCT_BITS'($signed(accumulators[lane])) : PRODUCT_BITS'(accumulators[lane]);
        wire signed [PRODUCT_BITS-1:0] multiplier = PRODUCT_BITS'(multipliers[lane]);
        logic signed [PRODUCT_BITS-1:0] product;
        logic signed [OFFSET_BITS-1:0] offset;
        logic signed [SUM_BITS-1:0] sum;
        wire [OUT_BITS-1:0] code;
        saturator #(
            .IN_BITS(SUM_BITS - SHIFT), .OUT_BITS(OUT_BITS), .LOW(LOW), .HIGH(HIGH)
        ) limits (
            .integer_in(sum[SUM_BITS-1:SHIFT]), .code(code)
        );
        always_ff @(posedge ap_clk) begin
            if (advance) begin
                product <= accumulator * multiplier;
                offset <= offsets[lane];
                sum <= SUM_BITS'(product) + SUM_BITS'(offset);
                codes[lane] <= code;
            end
        end
        if (SHIFT > 0) begin : dropped
            wire unused = &{1'b0, sum[SHIFT-1:0]};
        end
    end
    assign out0_V_TVALID = active[3];
    assign out0_V_TDATA = OUT_WIDTH'(codes);
endmodule
