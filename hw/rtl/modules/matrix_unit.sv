// Matrix times vector, in logic: weights of 1 to 8 bits, the least one included, and bipolar weights and codes.
//
// in0   MW / SIMD words of SIMD codes: a vector.
// out0  MH / PE words of PE sums, in two's complement: its product with the matrix.
//
// MW, MH               inputs and outputs
// PE                   outputs that are computed at a time; divides MH
// SIMD                 inputs that are taken at a time; divides MW
// CODE_BITS, CODE_KIND, WEIGHT_BITS, WEIGHT_KIND: see code_product
// ACC_BITS             holds every sum: the arithmetic wraps
// WEIGHTS_FILE         a word of PE x SIMD weights for each cycle: rows outside, columns inside, in both; weight [0, 0]
//                      in the lowest bits. The order of FINN's matrix unit.
//
// A vector takes MW / SIMD x MH / PE cycles, and the next one follows at once: it is kept while the first PE outputs are
// computed, and read again for the others. Bipolar codes with bipolar weights are XNOR gates and a count of ones.
// All stages move together; the last register of the pipeline is the output register.
module matrix_unit #(
    parameter int unsigned MW = 8,
    parameter int unsigned MH = 4,
    parameter int unsigned PE = 2,
    parameter int unsigned SIMD = 4,
    parameter int unsigned CODE_BITS = 4,
    parameter int unsigned CODE_KIND = 0,
    parameter int unsigned WEIGHT_BITS = 2,
    parameter int unsigned WEIGHT_KIND = 1,
    parameter int unsigned ACC_BITS = 16,
    parameter WEIGHTS_FILE = "",
    localparam int unsigned IN_WIDTH = (SIMD * CODE_BITS + 7) / 8 * 8,
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
    localparam int unsigned SF = MW / SIMD;
    localparam int unsigned NF = MH / PE;
    localparam int unsigned SF_BITS = SF > 1 ? $clog2(SF) : 1;
    localparam int unsigned ADDRESS_BITS = SF * NF > 1 ? $clog2(SF * NF) : 1;
    localparam int unsigned WORD_BITS = SIMD * CODE_BITS;
    localparam int unsigned STAGES = 2 + $clog2(SIMD);  // codes and weights, products, levels of the adder tree

    wire advance = !out0_V_TVALID || out0_V_TREADY;

    // The position in the matrix: a column group, and a word of the weight memory.
    logic [SF_BITS-1:0] column;
    logic [ADDRESS_BITS-1:0] address;
    logic fresh;  // the vector comes in, rather than from the buffer
    wire step = advance && (!fresh || in0_V_TVALID);
    wire last_column = column == SF_BITS'(SF - 1);
    wire last_word = address == ADDRESS_BITS'(SF * NF - 1);
    assign in0_V_TREADY = advance && fresh;
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) begin
            column <= '0;
            address <= '0;
            fresh <= 1'b1;
        end else if (step) begin
            column <= last_column ? '0 : column + 1'b1;
            address <= last_word ? '0 : address + 1'b1;
            if (last_column) fresh <= last_word;
        end
    end

    logic [STAGES-1:0] active;
    logic [STAGES-1:0] starts;
    logic [STAGES-1:0] ends;
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) active <= '0;
        else if (advance) active <= {active[STAGES-2:0], step};
        if (advance) begin
            starts <= {starts[STAGES-2:0], column == '0};
            ends <= {ends[STAGES-2:0], last_column};
        end
    end

    // Stage 0: codes and weights.
    logic [WORD_BITS-1:0] incoming;
    wire [SIMD-1:0][CODE_BITS-1:0] codes;
    wire [PE-1:0][SIMD-1:0][WEIGHT_BITS-1:0] weights;
    always_ff @(posedge ap_clk) if (advance) incoming <= in0_V_TDATA[WORD_BITS-1:0];
    if (NF > 1) begin : replay
        logic [WORD_BITS-1:0] vector[SF];
        logic [WORD_BITS-1:0] kept;
        logic again;
        always_ff @(posedge ap_clk) begin
            if (step && fresh) vector[column] <= in0_V_TDATA[WORD_BITS-1:0];
            if (advance) begin
                kept <= vector[column];
                again <= !fresh;
            end
        end
        assign codes = again ? kept : incoming;
    end else begin : once
        assign codes = incoming;
    end
    constant_rom #(
        .WIDTH(PE * SIMD * WEIGHT_BITS), .DEPTH(SF * NF), .FILE(WEIGHTS_FILE)
    ) memory (
        .clk(ap_clk), .enable(advance), .address(address), .word(weights)
    );

    logic [PE-1:0][ACC_BITS-1:0] sums;
    wire collect = advance && active[STAGES-1];
    for (genvar row = 0; row < PE; row++) begin : rows
        matrix_row #(
            .SIMD(SIMD), .CODE_BITS(CODE_BITS), .CODE_KIND(CODE_KIND), .WEIGHT_BITS(WEIGHT_BITS),
            .WEIGHT_KIND(WEIGHT_KIND), .ACC_BITS(ACC_BITS), .MW(MW)
        ) unit (
            .clk(ap_clk), .advance(advance), .codes(codes), .weights(weights[row]), .collect(collect),
            .start(starts[STAGES-1]), .sum(sums[row])
        );
    end

    logic valid;
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) valid <= 1'b0;
        else if (advance) valid <= active[STAGES-1] && ends[STAGES-1];
    end
    assign out0_V_TVALID = valid;
    assign out0_V_TDATA = OUT_WIDTH'(sums);
endmodule
