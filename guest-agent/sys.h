/* System calls and the few library functions that the agent needs: it is linked without a C library. */
#ifndef AGENT_SYS_H
#define AGENT_SYS_H

#include <asm/errno.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define SIGHUP 1
#define SIGKILL 9
#define SIGPIPE 13
#define SIGTERM 15
#define SIGCHLD 17
#define SIGCONT 18
#define WNOHANG 1

#define POLLIN 1
#define POLLOUT 4
#define POLLERR 8
#define POLLHUP 16
#define EINTR_RETRY(call)                                                                                              \
    ({                                                                                                                 \
        long result_;                                                                                                  \
        do                                                                                                             \
            result_ = (call);                                                                                          \
        while (result_ == -EINTR);                                                                                     \
        result_;                                                                                                       \
    })

struct pollfd {
    int fd;
    short events, revents;
};

static inline long call6(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#define call(number, ...) CALL_(number, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define CALL_(number, a, b, c, d, e, f, ...)                                                                           \
    call6(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

void *memcpy(void *to, const void *from, size_t length);
void *memmove(void *to, const void *from, size_t length);
void *memset(void *to, int value, size_t length);
int memcmp(const void *one, const void *other, size_t length);
size_t strlen(const char *text);
int same(const char *one, const char *other);
/* Returns the part of `text` after `prefix`, or NULL if `text` does not start with it. */
const char *after(const char *text, const char *prefix);
/* Appends text to a buffer of `size` bytes; returns 0 if it did not fit. */
int append(char *to, size_t size, const char *text);
/* Parses a decimal number. Returns -1 on an error. */
long number(const char *text);

/* Calls `use` with each line of a file: its first word, and the rest after a space. A missing file has no lines. */
void each_line(const char *path, void (*use)(char *word, char *rest));

/* Prints a line on standard error, which is the kernel's log for PID 1. `error` is a negative error number or 0. */
void say(const char *what, const char *name, long error);
void quit(int code) __attribute__((noreturn));
/* Writes all bytes to a blocking descriptor. Returns 0, or a negative error number. */
long write_all(int fd, const void *bytes, size_t length);
/* Reads exactly this number of bytes. Returns 0, or a negative error number (-EPIPE at the end). */
long read_all(int fd, void *bytes, size_t length);
void set_nonblocking(int fd);

#endif
