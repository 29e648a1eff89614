#include "sys.h"

/* Built with -fno-tree-loop-distribute-patterns, because the compiler would otherwise replace the loops by calls of these functions. */
void *memcpy(void *to, const void *from, size_t length)
{
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
    return start;
}

void *memmove(void *to, const void *from, size_t length)
{
    u8 *target = to;
    const u8 *source = from;
    if (target <= source || target >= source + length)
        return memcpy(to, from, length);
    while (length--)
        target[length] = source[length];
    return to;
}

void *memset(void *to, int value, size_t length)
{
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(length) : "a"(value) : "memory");
    return start;
}

int memcmp(const void *one, const void *other, size_t length)
{
    const u8 *a = one, *b = other;
    for (size_t i = 0; i < length; i++)
        if (a[i] != b[i])
            return a[i] - b[i];
    return 0;
}

size_t strlen(const char *text)
{
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

int same(const char *one, const char *other)
{
    size_t length = strlen(one);
    return length == strlen(other) && !memcmp(one, other, length);
}

const char *after(const char *text, const char *prefix)
{
    while (*prefix)
        if (*text++ != *prefix++)
            return NULL;
    return text;
}

int append(char *to, size_t size, const char *text)
{
    size_t used = strlen(to), length = strlen(text);
    if (used + length >= size)
        return 0;
    memcpy(to + used, text, length + 1);
    return 1;
}

long number(const char *text)
{
    long value = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value > 400000000)
            return -1;
        value = value * 10 + (*text - '0');
    }
    return value;
}

void say(const char *what, const char *name, long error)
{
    char line[512] = "viridian-agent: ", digits[24];
    append(line, sizeof line, what);
    if (name && append(line, sizeof line, " "))
        append(line, sizeof line, name);
    if (error) {
        int place = sizeof digits;
        digits[--place] = 0;
        for (unsigned long value = -error; value; value /= 10)
            digits[--place] = '0' + value % 10;
        append(line, sizeof line, ": error ");
        append(line, sizeof line, digits + place);
    }
    append(line, sizeof line, "\n");
    call(__NR_write, 2, line, strlen(line));
}

void quit(int code)
{
    for (;;)
        call(__NR_exit_group, code);
}

long write_all(int fd, const void *bytes, size_t length)
{
    const u8 *next = bytes;
    while (length) {
        long count = EINTR_RETRY(call(__NR_write, fd, next, length));
        if (count < 0)
            return count;
        next += count;
        length -= count;
    }
    return 0;
}

long read_all(int fd, void *bytes, size_t length)
{
    u8 *next = bytes;
    while (length) {
        long count = EINTR_RETRY(call(__NR_read, fd, next, length));
        if (count <= 0)
            return count ? count : -EPIPE;
        next += count;
        length -= count;
    }
    return 0;
}

void set_nonblocking(int fd)
{
    long flags = call(__NR_fcntl, fd, F_GETFL);
    if (flags >= 0)
        call(__NR_fcntl, fd, F_SETFL, flags | O_NONBLOCK);
}

void each_line(const char *path, void (*use)(char *word, char *rest))
{
    static char list[64 * 1024];
    long fd = call(__NR_open, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    long length = call(__NR_read, fd, list, sizeof list - 1);
    call(__NR_close, fd);
    char *line = list;
    for (long i = 0; i < length; i++) {
        if (list[i] != '\n')
            continue;
        list[i] = 0;
        char *rest = line;
        while (*rest && *rest != ' ')
            rest++;
        if (*rest)
            *rest++ = 0;
        use(line, rest);
        line = list + i + 1;
    }
}
