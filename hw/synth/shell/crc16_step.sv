// One byte of a checksum, combinational: CRC-16 with the polynomial x^16 + x^12 + x^5 + 1, highest bit first.
//
// previous   the checksum of the bytes so far; of none, 16'hFFFF
// following  that of these and of octet; 0 if they end with their own checksum, its high byte first
module crc16_step (
    input logic [15:0] previous,
    input logic [7:0] octet,
    output logic [15:0] following
);
    always_comb begin
        following = previous ^ {octet, 8'b0};
        for (int bit_of_octet = 0; bit_of_octet < 8; bit_of_octet++) begin
            following = {following[14:0], 1'b0} ^ (following[15] ? 16'h1021 : 16'h0);
        end
    end
endmodule
