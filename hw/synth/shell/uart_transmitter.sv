// Bytes to a serial line: 1 start bit, 8 data bits with the lowest first, 1 stop bit, no parity.
//
// octet   a byte, taken in a cycle in which valid and ready are 1
// line    the serial line, idle at 1, out of a register
//
// CLOCKS_PER_BIT  >= 2  clock cycles of a bit: the frequency of clk by the baud rate
module uart_transmitter #(
    parameter int unsigned CLOCKS_PER_BIT = 100
) (
    input logic clk,
    input logic rst_n,
    input logic [7:0] octet,
    input logic valid,
    output logic ready,
    output logic line
);
    localparam int unsigned TIMER_BITS = $clog2(CLOCKS_PER_BIT);
    localparam logic [TIMER_BITS-1:0] WHOLE = TIMER_BITS'(CLOCKS_PER_BIT - 1);

    logic [8:0] bits;  // what follows the bit on the line
    logic [3:0] left;  // bits that are not over yet, that on the line included
    logic [TIMER_BITS-1:0] timer;
    assign ready = left == '0;
    always_ff @(posedge clk) begin
        if (!rst_n) begin
            line <= 1'b1;
            left <= '0;
        end else if (ready) begin
            timer <= WHOLE;
            bits <= {1'b1, octet};
            if (valid) begin
                line <= 1'b0;
                left <= 4'd10;
            end
        end else if (timer != '0) begin
            timer <= timer - 1'b1;
        end else begin
            timer <= WHOLE;
            line <= bits[0];
            bits <= {1'b1, bits[8:1]};
            left <= left - 1'b1;
        end
    end
endmodule
