"""The smallest HVM guest: a boot sector that tells Xen's console what its CD begins with.

Linux takes more than a minute to get here under emulation: QEMU hands it its kernel byte by byte.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

#: Reads the CD's first block (INT 13h, AH=42h; SeaBIOS calls the first CD drive 0xE0) again and
#: again, and writes "CD " and its first byte to port 0xE9 whenever that has changed; "-" if there
#: is no CD. Xen puts what comes at this port into its own ring, marked with the domain's id.
SOURCE = """\
.code16
.globl _start
_start:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
again:
    movw $packet, %si
    movb $0x42, %ah
    movb $0xe0, %dl
    int $0x13
    movb $'-', %al
    jc compare
    movb 0x8000, %al
compare:
    cmpb last, %al
    je tick
    movb %al, last
    movw $line, %si
print:
    lodsb
    outb %al, $0xe9
    cmpb $'\\n', %al
    jne print
tick:
    movw $16, %bx
    xorw %cx, %cx
wait:
    loop wait
    decw %bx
    jnz wait
    jmp again
packet: .byte 16, 0
    .word 1, 0x8000, 0
    .quad 0
line: .ascii "CD "
last: .byte 0
    .byte '\\n'
    .org 510
    .word 0xaa55
"""


def sector(place: Path) -> bytes:
    """The 512 bytes; ``place`` is a directory for the assembler's files."""
    made, image = place / "boot.o", place / "boot.bin"
    subprocess.run(["as", "--32", "-o", made, "-"], input=SOURCE.encode(), check=True)
    subprocess.run(["ld", "-m", "elf_i386", "--oformat", "binary", "-Ttext", "0x7c00",
                    "-o", image, made], check=True)
    return image.read_bytes()
