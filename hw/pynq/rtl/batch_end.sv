// The end of a batch: TLAST of what leaves the accelerator, from TLAST of what enters it, by counting images.
//
// The words themselves pass by; this module gates their handshakes.
//
// s_axis  words from the DMA; TLAST comes with the last word of the last image of a batch.
// source  the same words, to the accelerator.
// target  words from the accelerator.
// m_axis  the same words, to the DMA; TLAST comes with the last word that the last image causes.
//
// IN_WORDS, OUT_WORDS  >= 1  words of one image on either side
//
// The last word of an image is held back until the image was taken in whole: it may be the last of the batch, and only
// then is that known. A next batch waits until all of this one has left. TLAST within an image never ends a batch: the
// DMA then waits, and the driver says so after its time limit.
module batch_end #(
    parameter int unsigned IN_WORDS = 1,
    parameter int unsigned OUT_WORDS = 1
) (
    input logic ap_clk,
    input logic ap_rst_n,
    input logic s_axis_tvalid,
    output logic s_axis_tready,
    input logic s_axis_tlast,
    output logic source_valid,
    input logic source_ready,
    input logic target_valid,
    output logic target_ready,
    output logic m_axis_tvalid,
    input logic m_axis_tready,
    output logic m_axis_tlast
);
    localparam int unsigned IN_BITS = IN_WORDS > 1 ? $clog2(IN_WORDS) : 1;
    localparam int unsigned OUT_BITS = OUT_WORDS > 1 ? $clog2(OUT_WORDS) : 1;

    logic [IN_BITS-1:0] in_word;
    logic [OUT_BITS-1:0] out_word;
    logic [31:0] taken, given;  // images of this batch; the DMA's length register holds less than 2**26 bytes
    logic closing;  // all of the batch was taken

    wire in_last = in_word == IN_BITS'(IN_WORDS - 1);
    wire out_last = out_word == OUT_BITS'(OUT_WORDS - 1);
    wire may_leave = !out_last || taken != given;

    assign source_valid = s_axis_tvalid && !closing;
    assign s_axis_tready = source_ready && !closing;
    assign m_axis_tvalid = target_valid && may_leave;
    assign target_ready = m_axis_tready && may_leave;
    assign m_axis_tlast = out_last && closing && taken == given + 1;

    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) begin
            in_word <= '0;
            out_word <= '0;
            taken <= '0;
            given <= '0;
            closing <= 1'b0;
        end else begin
            if (source_valid && source_ready) begin
                in_word <= in_last ? '0 : in_word + 1'b1;
                if (in_last) taken <= taken + 1;
                if (in_last && s_axis_tlast) closing <= 1'b1;
            end
            if (m_axis_tvalid && m_axis_tready) begin
                out_word <= out_last ? '0 : out_word + 1'b1;
                if (out_last) given <= given + 1;
                if (m_axis_tlast) begin
                    taken <= '0;
                    given <= '0;
                    closing <= 1'b0;
                end
            end
        end
    end
endmodule
