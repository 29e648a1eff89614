/*
 * The memory functions, on the string instructions: one instruction in the image, and fast where the processor is real.
 */
#include "memory.h"

void *memcpy(void *to, const void *from, size_t length)
{
    void *cursor = to;
    asm volatile("rep movsb" : "+D"(cursor), "+S"(from), "+c"(length) : : "memory");
    return to;
}

void *memmove(void *to, const void *from, size_t length)
{
    if ((uintptr_t)to - (uintptr_t)from >= length)
        return memcpy(to, from, length);
    char *cursor = (char *)to + length - 1;
    const char *source = (const char *)from + length - 1;
    asm volatile("std; rep movsb; cld" : "+D"(cursor), "+S"(source), "+c"(length) : : "memory");
    return to;
}

void *memset(void *to, int value, size_t length)
{
    void *cursor = to;
    asm volatile("rep stosb" : "+D"(cursor), "+c"(length) : "a"(value) : "memory");
    return to;
}

int memcmp(const void *left, const void *right, size_t length)
{
    const uint8_t *a = left, *b = right;
    for (size_t i = 0; i < length; i++)
        if (a[i] != b[i])
            return a[i] - b[i];
    return 0;
}
