/*
 * The memory functions, with string instructions: they are small, and fast on a real processor.
 *
 * An emulated processor needs a step for each repetition, so words are copied first, and then the remaining bytes.
 */
#include "memory.h"

#undef memcpy
#undef memset
#undef memcmp

#define WORD 8

/* Also works if `to` is below `from` and they overlap: every word is read before it is overwritten. */
void *memcpy(void *to, const void *from, size_t length)
{
    void *cursor = to;
    size_t words = length / WORD, bytes = length % WORD;
    asm volatile("rep movsq" : "+D"(cursor), "+S"(from), "+c"(words) : : "memory");
    asm volatile("rep movsb" : "+D"(cursor), "+S"(from), "+c"(bytes) : : "memory");
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
    size_t words = length / WORD, bytes = length % WORD;
    uint64_t word = (uint8_t)value * 0x0101010101010101ULL;
    asm volatile("rep stosq" : "+D"(cursor), "+c"(words) : "a"(word) : "memory");
    asm volatile("rep stosb" : "+D"(cursor), "+c"(bytes) : "a"(word) : "memory");
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
