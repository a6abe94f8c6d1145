// Frames of the host to images: 8'hC5, LENGTH bytes, their CRC-16 with the high byte first.
//
// octet, valid             bytes as they come
// enable                   a frame may begin; what comes otherwise is dropped
// write, address, content  a byte of the image, for a memory
// done                     1 in the one cycle in which a frame is over, with its status:
//     0  the image is whole
//     1  its checksum is wrong
//     2  it stopped: SILENCE cycles without a byte within the frame
// checksum                 of the image, from then on
//
// LENGTH   >= 1  bytes of an image
// SILENCE  >= 1  cycles
module frame_receiver #(
    parameter int unsigned LENGTH = 16,
    parameter int unsigned SILENCE = 10000000,
    localparam int unsigned ADDRESS_BITS = LENGTH > 1 ? $clog2(LENGTH) : 1
) (
    input logic clk,
    input logic rst_n,
    input logic [7:0] octet,
    input logic valid,
    input logic enable,
    output logic write,
    output logic [ADDRESS_BITS-1:0] address,
    output logic [7:0] content,
    output logic done,
    output logic [7:0] status,
    output logic [15:0] checksum
);
    localparam logic [7:0] HEAD = 8'hC5;
    localparam logic [7:0] WHOLE = 8'd0;
    localparam logic [7:0] WRONG = 8'd1;
    localparam logic [7:0] STOPPED = 8'd2;
    localparam int unsigned SILENCE_BITS = $clog2(SILENCE + 1);

    typedef enum logic [1:0] {
        WAITING, IMAGE, CHECK_HIGH, CHECK_LOW
    } state_e;
    state_e state;
    logic [15:0] crc;
    wire [15:0] crc_after;
    logic [SILENCE_BITS-1:0] silent;
    wire stopped = silent == SILENCE_BITS'(SILENCE);
    crc16_step step (
        .previous(crc), .octet(octet), .following(crc_after)
    );

    assign write = valid && state == IMAGE;
    assign content = octet;
    always_ff @(posedge clk) begin
        done <= 1'b0;
        silent <= valid || state == WAITING ? '0 : silent + 1'b1;
        if (!rst_n) begin
            state <= WAITING;
        end else if (state == WAITING) begin
            address <= '0;
            crc <= '1;
            if (valid && enable && octet == HEAD) state <= IMAGE;
        end else if (valid) begin
            crc <= crc_after;
            address <= address + 1'b1;
            unique case (state)
                IMAGE: if (address == ADDRESS_BITS'(LENGTH - 1)) state <= CHECK_HIGH;
                CHECK_HIGH: begin
                    state <= CHECK_LOW;
                    checksum <= crc;
                end
                default: begin
                    state <= WAITING;
                    done <= 1'b1;
                    status <= crc_after == '0 ? WHOLE : WRONG;
                end
            endcase
        end else if (stopped) begin
            state <= WAITING;
            done <= 1'b1;
            status <= STOPPED;
        end
    end
endmodule
