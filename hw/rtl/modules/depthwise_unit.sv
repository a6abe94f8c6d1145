// Depthwise convolution: the taps of each window times the weights of their channels, summed.
//
// in0   TAPS words of PE codes for each output word, one tap of the window in each, for FOLDS groups of channels: what
//       FINN's depthwise sliding window (ConvolutionInputGenerator) sends, groups outside and taps inside.
// out0  the sums of the PE channels, in two's complement, one word for TAPS words of in0.
//
// PE           >= 1     channels in a word
// TAPS         >= 1     taps of a window
// FOLDS        >= 1     groups of channels: channels / PE
// CODE_BITS, CODE_KIND, WEIGHT_BITS, WEIGHT_KIND: see code_product
// ACC_BITS              holds every sum: the arithmetic wraps
// WEIGHTS_FILE          FOLDS x TAPS words of PE weights, that of the first channel in the lowest bits
//
// Takes a word in every cycle. All stages move together; the last register of the pipeline is the output register.
module depthwise_unit #(
    parameter int unsigned PE = 1,
    parameter int unsigned TAPS = 9,
    parameter int unsigned FOLDS = 1,
    parameter int unsigned CODE_BITS = 8,
    parameter int unsigned CODE_KIND = 0,
    parameter int unsigned WEIGHT_BITS = 4,
    parameter int unsigned WEIGHT_KIND = 1,
    parameter int unsigned ACC_BITS = 16,
    parameter WEIGHTS_FILE = "",
    localparam int unsigned IN_WIDTH = (PE * CODE_BITS + 7) / 8 * 8,
    localparam int unsigned OUT_WIDTH = (PE * ACC_BITS + 7) / 8 * 8
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
    localparam int unsigned DEPTH = FOLDS * TAPS;
    localparam int unsigned ADDRESS_BITS = DEPTH > 1 ? $clog2(DEPTH) : 1;
    localparam int unsigned PRODUCT_BITS =
        CODE_BITS + WEIGHT_BITS + (CODE_KIND == 0 && WEIGHT_KIND == 0 ? 1 : 0);

    wire advance = !out0_V_TVALID || out0_V_TREADY;
    wire take = in0_V_TVALID && advance;
    assign in0_V_TREADY = advance;

    logic [TAP_BITS-1:0] tap;
    logic [ADDRESS_BITS-1:0] address;
    wire last = tap == TAP_BITS'(TAPS - 1);
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) begin
            tap <= '0;
            address <= '0;
        end else if (take) begin
            tap <= last ? '0 : tap + 1'b1;
            address <= address == ADDRESS_BITS'(DEPTH - 1) ? '0 : address + 1'b1;
        end
    end

    // What the two stages before the accumulator hold: stage 0 codes and weights, stage 1 products.
    logic [1:0] active;
    logic [1:0] starts;
    logic [1:0] ends;
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) active <= '0;
        else if (advance) active <= {active[0], take};
        if (advance) begin
            starts <= {starts[0], tap == '0};
            ends <= {ends[0], last};
        end
    end

    logic [PE-1:0][CODE_BITS-1:0] codes;
    wire [PE-1:0][WEIGHT_BITS-1:0] weights;
    always_ff @(posedge ap_clk) if (advance) codes <= in0_V_TDATA[PE*CODE_BITS-1:0];
    constant_rom #(
        .WIDTH(PE * WEIGHT_BITS), .DEPTH(DEPTH), .FILE(WEIGHTS_FILE)
    ) memory (
        .clk(ap_clk), .enable(advance), .address(address), .word(weights)
    );

    logic [PE-1:0][ACC_BITS-1:0] sums;
    for (genvar lane = 0; lane < PE; lane++) begin : lanes
        wire signed [PRODUCT_BITS-1:0] result;
        logic signed [PRODUCT_BITS-1:0] product;
        code_product #(
            .CODE_BITS(CODE_BITS), .CODE_KIND(CODE_KIND), .WEIGHT_BITS(WEIGHT_BITS), .WEIGHT_KIND(WEIGHT_KIND)
        ) multiplier (
            .code(codes[lane]), .weight(weights[lane]), .product(result)
        );
        always_ff @(posedge ap_clk) begin
            if (advance) product <= result;
            if (advance && active[1]) sums[lane] <= (starts[1] ? '0 : sums[lane]) + ACC_BITS'(product);
        end
    end

    logic valid;
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) valid <= 1'b0;
        else if (advance) valid <= active[1] && ends[1];
    end
    assign out0_V_TVALID = valid;
    assign out0_V_TDATA = OUT_WIDTH'(sums);
endmodule
