/*
 * Uses memory like a program that needs more than there is: stress MIB [huge]
 *
 * Reserves MIB MiB at once, so that the kernel counts them as committed. Once it gets SIGUSR1, it touches them, but leaves the kernel enough to
 * go on. With "huge", in huge pages. Ends when it is killed.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1UL << 20)
/* The kernel refuses a single mapping that is larger than its memory. */
#define PART (64 * MIB)
#define STEP (2 * MIB)
/* What stays available, in KiB: more than the kernel's watermarks, and less than what the balloon driver keeps. */
#define LEFT (56 * 1024)

static long available(void)
{
    char line[256];
    long kibibytes = 0;
    FILE *input = fopen("/proc/meminfo", "r");
    while (input && fgets(line, sizeof line, input))
        sscanf(line, "MemAvailable: %ld", &kibibytes);
    if (input)
        fclose(input);
    return kibibytes;
}

int main(int count, char **words)
{
    size_t size = count > 1 ? strtoul(words[1], NULL, 10) * MIB : 0;
    int advice = count > 2 && !strcmp(words[2], "huge") ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
    size_t parts = (size + PART - 1) / PART;
    char **part = calloc(parts + 1, sizeof *part);
    sigset_t go;
    int signal;
    sigemptyset(&go);
    sigaddset(&go, SIGUSR1);
    if (!size || !part || sigprocmask(SIG_BLOCK, &go, NULL))
        return 2;
    for (size_t i = 0; i < parts; i++) {
        part[i] = mmap(NULL, PART, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (part[i] == MAP_FAILED) {
            perror("mmap");
            return 1;
        }
        madvise(part[i], PART, advice);
    }
    sigwait(&go, &signal);
    for (size_t at = 0; at < size; at += STEP) {
        while (available() < LEFT)
            usleep(100000);
        for (size_t page = at; page < at + STEP; page += 4096)
            part[page / PART][page % PART] = 1;
    }
    for (;;)
        pause();
}
