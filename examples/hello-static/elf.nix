# Writes, as a format for printf, an ELF executable that prints one line, whatever it is asked, and ends with 0.
# The file is its header (64 bytes), one program header (56 bytes), the code, and the line; all of it is loaded as one
# segment, readable and executable, at 4 MiB. Numbers are little-endian.
{ system }:

let
  inherit (builtins) concatStringsSep filter fromTOML genList isString split stringLength toString;

  power = base: exponent: builtins.foldl' (product: _: product * base) 1 (genList (_: null) exponent);
  remainder = n: divisor: n - n / divisor * divisor;

  byte = n: "\\" + concatStringsSep "" (map (place: toString (remainder (n / place) 8)) [ 64 8 1 ]);
  little = width: n: concatStringsSep "" (genList (i: byte (remainder (n / power 256 i) 256)) width);
  half = little 2;
  word = little 4;
  long = little 8;
  hex = digits: (fromTOML "n = 0x${digits}").n;
  bytes = text: concatStringsSep "" (map (digits: byte (hex digits)) (filter isString (split " " text)));

  # Each kind of machine: its number in ELF, and how it writes a line of `length` bytes that lies behind the code.
  machines = {
    x86_64-linux = {
      number = 62;
      codeSize = 33;
      code = length:
        bytes "b8 01 00 00 00" #          mov eax, 1          write
        + bytes "bf 01 00 00 00" #        mov edi, 1            to standard output
        + bytes "48 8d 35 10 00 00 00" #  lea rsi, [rip + 16]   the line
        + bytes "ba" + word length #      mov edx, length
        + bytes "0f 05" #                 syscall
        + bytes "b8 3c 00 00 00" #        mov eax, 60         exit
        + bytes "31 ff" #                 xor edi, edi          with 0
        + bytes "0f 05"; #                syscall
    };
    aarch64-linux = {
      number = 183;
      codeSize = 32;
      code = length:
        word (hex "d2800808") #                   mov x8, 64          write
        + word (hex "d2800020") #                 mov x0, 1             to standard output
        + word (hex "100000c1") #                 adr x1, . + 24        the line
        + word (hex "d2800002" + length * 32) #   mov x2, length
        + word (hex "d4000001") #                 svc 0
        + word (hex "d2800ba8") #                 mov x8, 93          exit
        + word (hex "d2800000") #                 mov x0, 0             with 0
        + word (hex "d4000001"); #                svc 0
    };
  };
  machine = machines.${system} or (throw "hello-static: knows x86_64-linux and aarch64-linux, not ${system}");

  start = 4 * 1024 * 1024;
  headers = 64 + 56;
in
{
  # `line` may hold nothing that printf or the shell read otherwise: no %, backslash or quote.
  printing = line:
    let
      length = stringLength line + 1;
      size = headers + machine.codeSize + length;
    in
    bytes "7f 45 4c 46 02 01 01 00 00 00 00 00 00 00 00 00" # ELF, 64 bits, little-endian, version 1, System V
    + half 2 + half machine.number + word 1 #                  an executable
    + long (start + headers) #                                 where the code begins
    + long 64 + long 0 #                                       the program header; no section header
    + word 0 + half 64 + half 56 + half 1 #                    flags; sizes of both headers; one program header
    + half 0 + half 0 + half 0
    + word 1 + word 5 #                                        load, to be read and executed
    + long 0 + long start + long start #                       from the file's beginning, to this address
    + long size + long size + long 4096
    + machine.code length
    + line + "\\n";
}
