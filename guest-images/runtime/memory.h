/*
 * Access to memory by address, atomics, the spinlock, and the four functions that a C compiler requires.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For large objects that are written before they are read. They are outside of .bss, so they are not zeroed. */
#define NOT_CLEARED __attribute__((section(".noinit")))

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

void *memcpy(void *to, const void *from, size_t length);
void *memmove(void *to, const void *from, size_t length);
void *memset(void *to, int value, size_t length);
int memcmp(const void *left, const void *right, size_t length);
/* The compiler replaces calls with a small constant length by moves or comparisons, and calls the functions for others. */
#define memcpy(to, from, length) __builtin_memcpy(to, from, length)
#define memset(to, value, length) __builtin_memset(to, value, length)
#define memcmp(left, right, length) __builtin_memcmp(left, right, length)

/* Access to device registers and other volatile memory: one access per call, in program order. */
static inline uint32_t read32(uint64_t address)
{
    return *(volatile uint32_t *)address;
}

static inline void write32(uint64_t address, uint32_t value)
{
    *(volatile uint32_t *)address = value;
}

static inline uint64_t read64(uint64_t address)
{
    return *(volatile uint64_t *)address;
}

static inline void write64(uint64_t address, uint64_t value)
{
    *(volatile uint64_t *)address = value;
}

/* Sequentially consistent atomics on plain variables. */
#define atomic_load(pointer) __atomic_load_n(pointer, __ATOMIC_SEQ_CST)
#define atomic_store(pointer, value) __atomic_store_n(pointer, value, __ATOMIC_SEQ_CST)
#define atomic_add(pointer, value) __atomic_fetch_add(pointer, value, __ATOMIC_SEQ_CST)
#define atomic_exchange(pointer, value) __atomic_exchange_n(pointer, value, __ATOMIC_SEQ_CST)
#define atomic_or(pointer, value) __atomic_fetch_or(pointer, value, __ATOMIC_SEQ_CST)
#define atomic_and(pointer, value) __atomic_fetch_and(pointer, value, __ATOMIC_SEQ_CST)

struct spinlock {
    bool held;
};

/* Takes the lock. The caller is responsible for the interrupt flag. */
static inline void spinlock_take(struct spinlock *lock)
{
    while (__atomic_exchange_n(&lock->held, true, __ATOMIC_ACQUIRE))
        asm volatile("pause" : : : "memory");
}

static inline void spinlock_release(struct spinlock *lock)
{
    __atomic_store_n(&lock->held, false, __ATOMIC_RELEASE);
}
