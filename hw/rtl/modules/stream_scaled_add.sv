// The scaled sum of two streams, element by element: in0 * F0 + in1 * F1 + OFFSET, with constants of each channel.
//
// in0, in1  words of PE codes, FOLDS words for all channels of a pixel; a word of each is taken at once.
// out0      words of PE sums, in two's complement.
//
// PE                              >= 1  channels in a word
// FOLDS                           >= 1  words of a pixel: channels / PE
// IN0_BITS, IN0_SIGNED, IN1_BITS, IN1_SIGNED  of the codes
// FACTOR_BITS, OFFSET_BITS              of the constants, in two's complement
// OUT_BITS                              holds every sum: the arithmetic wraps
// FACTORS0_FILE, FACTORS1_FILE, OFFSETS_FILE  FOLDS words of PE constants, the first channel's in the lowest bits
//
// Takes a word of each in every cycle. All stages move together; the last register is the output register.
module stream_scaled_add #(
    parameter int unsigned PE = 1,
    parameter int unsigned FOLDS = 1,
    parameter int unsigned IN0_BITS = 8,
    parameter bit IN0_SIGNED = 0,
    parameter int unsigned IN1_BITS = 8,
    parameter bit IN1_SIGNED = 0,
    parameter int unsigned FACTOR_BITS = 4,
    parameter int unsigned OFFSET_BITS = 8,
    parameter int unsigned OUT_BITS = 14,
    parameter FACTORS0_FILE = "",
    parameter FACTORS1_FILE = "",
    parameter OFFSETS_FILE = "",
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
    localparam int unsigned ADDRESS_BITS = FOLDS > 1 ? $clog2(FOLDS) : 1;
    localparam int unsigned PRODUCT0_BITS = IN0_BITS + FACTOR_BITS;
    localparam int unsigned PRODUCT1_BITS = IN1_BITS + FACTOR_BITS;

    wire advance = !out0_V_TVALID || out0_V_TREADY;
    wire take = advance && in0_V_TVALID && in1_V_TVALID;
    assign in0_V_TREADY = advance && in1_V_TVALID;
    assign in1_V_TREADY = advance && in0_V_TVALID;

    logic [ADDRESS_BITS-1:0] fold;
    logic [2:0] active;  // stages: constants, products, sum
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) begin
            fold <= '0;
            active <= '0;
        end else begin
            if (take) fold <= fold == ADDRESS_BITS'(FOLDS - 1) ? '0 : fold + 1'b1;
            if (advance) active <= {active[1:0], take};
        end
    end

    logic [PE-1:0][IN0_BITS-1:0] codes0;
    logic [PE-1:0][IN1_BITS-1:0] codes1;
    always_ff @(posedge ap_clk) begin
        if (advance) begin
            codes0 <= in0_V_TDATA[PE*IN0_BITS-1:0];
            codes1 <= in1_V_TDATA[PE*IN1_BITS-1:0];
        end
    end
    wire [PE-1:0][FACTOR_BITS-1:0] factors0;
    wire [PE-1:0][FACTOR_BITS-1:0] factors1;
    wire [PE-1:0][OFFSET_BITS-1:0] offsets;
    constant_rom #(
        .WIDTH(PE * FACTOR_BITS), .DEPTH(FOLDS), .FILE(FACTORS0_FILE)
    ) factor0_memory (
        .clk(ap_clk), .enable(advance), .address(fold), .word(factors0)
    );
    constant_rom #(
        .WIDTH(PE * FACTOR_BITS), .DEPTH(FOLDS), .FILE(FACTORS1_FILE)
    ) factor1_memory (
        .clk(ap_clk), .enable(advance), .address(fold), .word(factors1)
    );
    constant_rom #(
        .WIDTH(PE * OFFSET_BITS), .DEPTH(FOLDS), .FILE(OFFSETS_FILE)
    ) offset_memory (
        .clk(ap_clk), .enable(advance), .address(fold), .word(offsets)
    );

    logic [PE-1:0][OUT_BITS-1:0] sums;
    for (genvar lane = 0; lane < PE; lane++) begin : lanes
        wire signed [PRODUCT0_BITS-1:0] result0;
        wire signed [PRODUCT1_BITS-1:0] result1;
        logic signed [PRODUCT0_BITS-1:0] product0;
        logic signed [PRODUCT1_BITS-1:0] product1;
        logic signed [OFFSET_BITS-1:0] offset;
        code_product #(
            .CODE_BITS(IN0_BITS), .CODE_KIND(32'(IN0_SIGNED)), .WEIGHT_BITS(FACTOR_BITS), .WEIGHT_KIND(1)
        ) multiplier0 (
            .code(codes0[lane]), .weight(factors0[lane]), .product(result0)
        );
        code_product #(
            .CODE_BITS(IN1_BITS), .CODE_KIND(32'(IN1_SIGNED)), .WEIGHT_BITS(FACTOR_BITS), .WEIGHT_KIND(1)
        ) multiplier1 (
            .code(codes1[lane]), .weight(factors1[lane]), .product(result1)
        );
        always_ff @(posedge ap_clk) begin
            if (advance) begin
                product0 <= result0;
                product1 <= result1;
                offset <= offsets[lane];
                sums[lane] <= OUT_BITS'(product0) + OUT_BITS'(product1) + OUT_BITS'(offset);
            end
        end
    end
    assign out0_V_TVALID = active[2];
    assign out0_V_TDATA = OUT_WIDTH'(sums);
endmodule
