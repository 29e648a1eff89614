/*
 * Formatting and parsing. Literal text is written in one piece, because an emulated guest executes only about a million instructions a second.
 */
#include "text.h"

#include "memory.h"

#define DIGITS_MAX 20
#define PADDING 16

static const char spaces[PADDING] = "                ";
static const char zeros[PADDING] = "0000000000000000";

struct field {
    int width;
    int precision;
    bool left, zero, is_long;
};

size_t text_length(const char *text)
{
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

bool text_equal(const char *left, const char *right)
{
    while (*left && *left == *right)
        left++, right++;
    return *left == *right;
}

static void pad(void (*write)(const char *, size_t), const char padding[PADDING], int count)
{
    for (; count > 0; count -= PADDING)
        write(padding, count < PADDING ? count : PADDING);
}

static void put_field(void (*write)(const char *, size_t), const struct field *field, const char *text, int length)
{
    if (!field->left)
        pad(write, spaces, field->width - length);
    write(text, length);
    if (field->left)
        pad(write, spaces, field->width - length);
}

static void put_number(void (*write)(const char *, size_t), const struct field *field, uint64_t value, unsigned base,
                       bool negative)
{
    char digits[DIGITS_MAX + 1];
    char *first = digits + sizeof digits;

    /* Bases that are powers of two use shifts, because emulated division is slow. */
    do
        if (base == 16) {
            *--first = "0123456789abcdef"[value & 15];
            value >>= 4;
        } else {
            *--first = '0' + value % 10;
            value /= 10;
        }
    while (value);
    if (negative)
        *--first = '-';
    int length = digits + sizeof digits - first;
    if (field->zero)
        pad(write, zeros, field->width - length);
    put_field(write, &(struct field){.width = field->zero ? 0 : field->width, .left = field->left}, first, length);
}

/* Formats one conversion, from the character after its per cent sign on. Returns the rest of the format. */
static const char *convert(void (*write)(const char *, size_t), const char *format, va_list *arguments)
{
    struct field field = {.precision = -1};

    for (;; format++)
        if (*format == '-')
            field.left = true;
        else if (*format == '0')
            field.zero = true;
        else
            break;
    for (; *format >= '0' && *format <= '9'; format++)
        field.width = field.width * 10 + *format - '0';
    if (format[0] == '.' && format[1] == '*') {
        field.precision = va_arg(*arguments, int);
        format += 2;
    }
    for (; *format == 'l'; format++)
        field.is_long = true;

    switch (*format) {
    case 's': {
        const char *text = va_arg(*arguments, const char *);
        put_field(write, &field, text, field.precision >= 0 ? field.precision : (int)text_length(text));
        break;
    }
    case 'c': {
        char character = va_arg(*arguments, int);
        put_field(write, &field, &character, 1);
        break;
    }
    case 'd': {
        int64_t value = field.is_long ? va_arg(*arguments, int64_t) : va_arg(*arguments, int);
        put_number(write, &field, value < 0 ? -(uint64_t)value : (uint64_t)value, 10, value < 0);
        break;
    }
    case 'u':
    case 'x': {
        uint64_t value = field.is_long ? va_arg(*arguments, uint64_t) : va_arg(*arguments, unsigned);
        put_number(write, &field, value, *format == 'x' ? 16 : 10, false);
        break;
    }
    case 'p':
        write("0x", 2);
        put_number(write, &field, va_arg(*arguments, uint64_t), 16, false);
        break;
    default:
        write(format, 1);
    }
    return format + 1;
}

void text_format(void (*write)(const char *, size_t), const char *format, va_list arguments)
{
    va_list remaining;
    va_copy(remaining, arguments);
    while (*format) {
        const char *literal = format;
        while (*format && *format != '%')
            format++;
        if (format != literal)
            write(literal, format - literal);
        if (format[0] == '%' && format[1])
            format = convert(write, format + 1, &remaining);
        else if (*format)
            break;
    }
    va_end(remaining);
}

/* Returns the value of a hexadecimal digit, or a larger number for other characters. */
static unsigned digit_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    char lower = digit | 0x20;
    return lower >= 'a' && lower <= 'f' ? (unsigned)(lower - 'a' + 10) : 16;
}

bool text_to_number(const char *text, uint64_t *number)
{
    unsigned base = 10, shift = 0;
    uint64_t value = 0;

    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
    }
    const char *first = text;
    for (;; text++) {
        unsigned digit = digit_value(*text);
        if (digit >= base)
            break;
        if (__builtin_mul_overflow(value, base, &value) || __builtin_add_overflow(value, digit, &value))
            return false;
    }
    if (text == first)
        return false;
    if (*text == 'K' || *text == 'M' || *text == 'G')
        shift = *text == 'K' ? 10 : *text == 'M' ? 20 : 30, text++;
    if (*text || value << shift >> shift != value)
        return false;
    *number = value << shift;
    return true;
}
