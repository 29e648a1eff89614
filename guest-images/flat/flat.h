/*
 * What the flat images share. They have no runtime: all they need is a line on the serial port and a value for the exit
 * port.
 */
#define EXIT_PORT 0xf4
#define SERIAL_PORT 0x3f8
/* Ends an image that finds itself in another state than promised. */
#define WRONG_MODE 1

/* Writes the code to the exit port and, if the machine goes on, halts. */
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
