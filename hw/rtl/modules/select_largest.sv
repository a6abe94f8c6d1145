// The indices of the COUNT largest codes of a vector, the largest first; of equal codes the lower index comes first.
//
// in0   FOLDS words of PE codes: a vector.
// out0  COUNT words, an index in each, unsigned.
//
// PE            >= 1  codes in a word; 1 if COUNT > 1
// FOLDS         >= 1  words of a vector
// COUNT         1..PE * FOLDS
// BITS, SIGNED        of a code
// INDEX_BITS          holds PE * FOLDS - 1
//
// Takes a word in every cycle. A tournament, a register behind every round, finds the largest code of a word; it is then
// put into a list of the COUNT largest, which leaves while the next vector comes in.
module select_largest #(
    parameter int unsigned PE = 1,
    parameter int unsigned FOLDS = 10,
    parameter int unsigned COUNT = 1,
    parameter int unsigned BITS = 8,
    parameter bit SIGNED = 1,
    parameter int unsigned INDEX_BITS = 4,
    localparam int unsigned IN_WIDTH = (PE * BITS + 7) / 8 * 8,
    localparam int unsigned OUT_WIDTH = (INDEX_BITS + 7) / 8 * 8
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
    localparam int unsigned LEVELS = $clog2(PE);
    localparam int unsigned STAGES = LEVELS + 1;  // the word, the rounds of the tournament
    localparam int unsigned FOLD_BITS = FOLDS > 1 ? $clog2(FOLDS) : 1;
    localparam int unsigned LEFT_BITS = $clog2(COUNT + 1);

    // The list of a whole vector moves to the output when the last indices have left.
    logic [LEFT_BITS-1:0] left;  // indices that are still to leave
    logic [STAGES-1:0] active;
    logic [STAGES-1:0] starts;
    logic [STAGES-1:0] ends;
    logic complete;  // the list holds a whole vector
    wire free = left == '0 || (left == LEFT_BITS'(1) && out0_V_TREADY);
    wire advance = !complete || free;
    wire take = in0_V_TVALID && advance;
    assign in0_V_TREADY = advance;

    logic [FOLD_BITS-1:0] fold;
    logic [INDEX_BITS-1:0] index;
    wire last = fold == FOLD_BITS'(FOLDS - 1);
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) begin
            fold <= '0;
            index <= '0;
            active <= '0;
        end else if (advance) begin
            active <= STAGES'({active, take});
            if (take) begin
                fold <= last ? '0 : fold + 1'b1;
                index <= last ? '0 : index + INDEX_BITS'(PE);
            end
        end
        if (advance) begin
            starts <= STAGES'({starts, fold == '0});
            ends <= STAGES'({ends, last});
        end
    end

    // The tournament: of two equal codes the first one wins.
    for (genvar level = 0; level <= LEVELS; level++) begin : rounds
        localparam int unsigned PLAYERS = (PE + (1 << level) - 1) >> level;
        logic [PLAYERS-1:0][BITS-1:0] codes;
        logic [PLAYERS-1:0][INDEX_BITS-1:0] indices;

        for (genvar player = 0; player < PLAYERS; player++) begin : players
            if (level == 0) begin : first_round
                always_ff @(posedge ap_clk) begin
                    if (advance) begin
                        codes[player] <= in0_V_TDATA[player*BITS+:BITS];
                        indices[player] <= index + INDEX_BITS'(player);
                    end
                end
            end else if (2 * player + 1 < (PE + (1 << (level - 1)) - 1) >> (level - 1)) begin : match
                wire [BITS-1:0] one = rounds[level-1].codes[2*player];
                wire [BITS-1:0] other = rounds[level-1].codes[2*player+1];
                wire second = SIGNED ? $signed(other) > $signed(one) : other > one;
                always_ff @(posedge ap_clk) begin
                    if (advance) begin
                        codes[player] <= second ? other : one;
                        indices[player] <=
                            second ? rounds[level-1].indices[2*player+1] : rounds[level-1].indices[2*player];
                    end
                end
            end else begin : alone
                always_ff @(posedge ap_clk) begin
                    if (advance) begin
                        codes[player] <= rounds[level-1].codes[2*player];
                        indices[player] <= rounds[level-1].indices[2*player];
                    end
                end
            end
        end
    end
    wire [BITS-1:0] candidate = rounds[LEVELS].codes[0];
    wire [INDEX_BITS-1:0] candidate_index = rounds[LEVELS].indices[0];
    wire collect = advance && active[STAGES-1];

    // The list, its largest code first; a candidate is put before the first smaller code.
    logic [COUNT-1:0] filled;
    logic [COUNT-1:0][BITS-1:0] codes;
    logic [COUNT-1:0][INDEX_BITS-1:0] indices;
    wire [COUNT-1:0] beaten;
    for (genvar place = 0; place < COUNT; place++) begin : places
        wire larger = SIGNED ? $signed(candidate) > $signed(codes[place]) : candidate > codes[place];
        assign beaten[place] = starts[STAGES-1] || !filled[place] || larger;
        if (place == 0) begin : top
            always_ff @(posedge ap_clk) begin
                if (collect && beaten[0]) begin
                    codes[0] <= candidate;
                    indices[0] <= candidate_index;
                end
                if (collect) filled[0] <= 1'b1;
            end
        end else begin : below
            always_ff @(posedge ap_clk) begin
                if (collect && beaten[place]) begin
                    codes[place] <= beaten[place-1] ? codes[place-1] : candidate;
                    indices[place] <= beaten[place-1] ? indices[place-1] : candidate_index;
                end
                if (collect) filled[place] <= !starts[STAGES-1] && filled[place-1];
            end
        end
    end
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) complete <= 1'b0;
        else if (advance) complete <= active[STAGES-1] && ends[STAGES-1];
    end

    logic [COUNT-1:0][INDEX_BITS-1:0] leaving;
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) left <= '0;
        else if (complete && free) left <= LEFT_BITS'(COUNT);
        else if (out0_V_TVALID && out0_V_TREADY) left <= left - 1'b1;
        if (complete && free) leaving <= indices;
        else if (out0_V_TVALID && out0_V_TREADY) leaving <= leaving >> INDEX_BITS;
    end
    assign out0_V_TVALID = left != '0;
    assign out0_V_TDATA = OUT_WIDTH'(leaving[0]);
endmodule
