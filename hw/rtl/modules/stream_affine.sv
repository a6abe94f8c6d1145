// A factor and an offset for each channel: in0 * FACTOR + OFFSET.
//
// in0   words of PE codes, FOLDS words for all channels of a pixel.
// out0  words of PE integers, in two's complement.
//
// PE                        >= 1  channels in a word
// FOLDS                     >= 1  words of a pixel: channels / PE
// IN_BITS, SIGNED                 of a code
// FACTOR_BITS, OFFSET_BITS        of the constants, in two's complement
// OUT_BITS                        holds every output: the arithmetic wraps
// FACTORS_FILE, OFFSETS_FILE      FOLDS words of PE constants, the first channel's in the lowest bits
//
// Takes a word in every cycle. All stages move together; the last register is the output register.
module stream_affine #(
    parameter int unsigned PE = 1,
    parameter int unsigned FOLDS = 1,
    parameter int unsigned IN_BITS = 8,
    parameter bit SIGNED = 0,
    parameter int unsigned FACTOR_BITS = 4,
    parameter int unsigned OFFSET_BITS = 8,
    parameter int unsigned OUT_BITS = 13,
    parameter FACTORS_FILE = "",
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
    localparam int unsigned PRODUCT_BITS = IN_BITS + FACTOR_BITS;

    wire advance = !out0_V_TVALID || out0_V_TREADY;
    wire take = in0_V_TVALID && advance;
    assign in0_V_TREADY = advance;

    logic [ADDRESS_BITS-1:0] fold;
    logic [2:0] active;  // stages: constants, product, sum
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) begin
            fold <= '0;
            active <= '0;
        end else begin
            if (take) fold <= fold == ADDRESS_BITS'(FOLDS - 1) ? '0 : fold + 1'b1;
            if (advance) active <= {active[1:0], take};
        end
    end

    logic [PE-1:0][IN_BITS-1:0] codes;
    wire [PE-1:0][FACTOR_BITS-1:0] factors;
    wire [PE-1:0][OFFSET_BITS-1:0] offsets;
    always_ff @(posedge ap_clk) if (advance) codes <= in0_V_TDATA[PE*IN_BITS-1:0];
    constant_rom #(
        .WIDTH(PE * FACTOR_BITS), .DEPTH(FOLDS), .FILE(FACTORS_FILE)
    ) factor_memory (
        .clk(ap_clk), .enable(advance), .address(fold), .word(factors)
    );
    constant_rom #(
        .WIDTH(PE * OFFSET_BITS), .DEPTH(FOLDS), .FILE(OFFSETS_FILE)
    ) offset_memory (
        .clk(ap_clk), .enable(advance), .address(fold), .word(offsets)
    );

    logic [PE-1:0][OUT_BITS-1:0] sums;
    for (genvar lane = 0; lane < PE; lane++) begin : lanes
        wire signed [PRODUCT_BITS-1:0] result;
        logic signed [PRODUCT_BITS-1:0] product;
        logic signed [OFFSET_BITS-1:0] offset;
        code_product #(
            .CODE_BITS(IN_BITS), .CODE_KIND(32'(SIGNED)), .WEIGHT_BITS(FACTOR_BITS), .WEIGHT_KIND(1)
        ) multiplier (
            .code(codes[lane]), .weight(factors[lane]), .product(result)
        );
        always_ff @(posedge ap_clk) begin
            if (advance) begin
                product <= result;
                offset <= offsets[lane];
                sums[lane] <= OUT_BITS'(product) + OUT_BITS'(offset);
            end
        end
    end
    assign out0_V_TVALID = active[2];
    assign out0_V_TDATA = OUT_WIDTH'(sums);
endmodule
