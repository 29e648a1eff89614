/*
 * Macros that the flat images share. These images have no runtime: they print a line to the serial port and write a value
 * to the exit port.
 */
#define EXIT_PORT 0xf4
#define SERIAL_PORT 0x3f8
/* The exit code of an image that did not start in the specified state. */
#define WRONG_MODE 1

/* Writes the code to the exit port, and halts if the machine continues. */
#define END_WITH(code) mov $(code), %al; out %al, $EXIT_PORT; 9: cli; hlt; jmp 9b

/* A function that prints the text at the given index register. */
#define SAY(name, text) \
name:                   \
    mov $SERIAL_PORT, %dx; \
8:  mov (text), %al;    \
    test %al, %al;      \
    jz 7f;              \
    out %al, %dx;       \
    inc text;           \
    jmp 8b;             \
7:  ret

    .section .start, "ax"
flat_begin:
