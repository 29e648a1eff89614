/*
 * Memory by address, atomics, the spinlock, and the four functions that a C compiler takes for granted.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Big objects that are written before they are read: outside .bss, so that nobody spends time on zeroing them. */
#define NOT_CLEARED __attribute__((section(".noinit")))

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

void *memcpy(void *to, const void *from, size_t length);
void *memmove(void *to, const void *from, size_t length);
void *memset(void *to, int value, size_t length);
int memcmp(const void *left, const void *right, size_t length);
/* Of few bytes, whose number it knows, the compiler makes a move or a comparison; for others it calls the functions. */
#define memcpy(to, from, length) __builtin_memcpy(to, from, length)
#define memset(to, value, length) __builtin_memset(to, value, length)
#define memcmp(left, right, length) __builtin_memcmp(left, right, length)

/* Device registers and other memory that changes or acts by itself: one access each, in program order. */
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

/* Takes the lock; the interrupt flag is the caller's business. */
static inline void spinlock_take(struct spinlock *lock)
{
    while (__atomic_exchange_n(&lock->held, true, __ATOMIC_ACQUIRE))
        asm volatile("pause" : : : "memory");
}

static inline void spinlock_release(struct spinlock *lock)
{
    __atomic_store_n(&lock->held, false, __ATOMIC_RELEASE);
}
