/* Measures a VMM until its guest prints a marker: time-to-line MARKER COMMAND [ARGUMENT]...
 *
 * Prints one line of KEY=VALUE pairs: the milliseconds from just before the command's start to the arrival of MARKER on
 * its standard output, the milliseconds of CPU time that it took meanwhile (its guest included), and what KVM counted:
 * exits, instructions that it emulated, exits for I/O ports and for memory-mapped registers. Then ends the command.
 * Exits with 1 if the marker did not appear, after copying the output. Must be run as root on a host without other users of KVM. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

/* Reads a statistic of KVM, for all of its machines. */
static long long statistic(const char *name)
{
    char path[128], text[32] = "";
    long long value = -1;
    FILE *file;

    snprintf(path, sizeof path, "/sys/kernel/debug/kvm/%s", name);
    file = fopen(path, "r");
    if (file && fgets(text, sizeof text, file))
        value = atoll(text);
    if (file)
        fclose(file);
    return value;
}

/* Returns the CPU time of a running process in milliseconds: of all its threads, in user and in kernel mode. */
static double processor_time(pid_t process)
{
    clockid_t clock;
    struct timespec time;

    if (clock_getcpuclockid(process, &clock) || clock_gettime(clock, &time))
        return -1;
    return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

int main(int count, char **arguments)
{
    static const char *const statistics[] = {"exits", "insn_emulation", "io_exits", "mmio_exits"};
    static const char *const names[] = {"exits", "emulated", "ports", "registers"};
    static char output[1 << 20];
    long long before[4];
    size_t length = 0;
    double start;
    int ends[2], i;
    ssize_t got;
    pid_t command;

    if (count < 3) {
        fputs("usage: time-to-line MARKER COMMAND [ARGUMENT]...\n", stderr);
        return 2;
    }
    if (access("/sys/kernel/debug/kvm", F_OK))
        mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
    for (i = 0; i < 4; i++)
        before[i] = statistic(statistics[i]);
    if (pipe(ends) < 0) {
        perror("pipe");
        return 2;
    }
    start = milliseconds();
    command = fork();
    switch (command) {
    case -1:
        perror("fork");
        return 2;
    case 0:
        dup2(ends[1], STDOUT_FILENO);
        /* Some VMMs change the terminal settings of their standard input. */
        dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
        close(ends[0]);
        close(ends[1]);
        execvp(arguments[2], arguments + 2);
        perror(arguments[2]);
        _exit(127);
    }
    close(ends[1]);
    for (;;) {
        /* Bytes that exceed the buffer are dropped. */
        if (length == sizeof output)
            length /= 2;
        got = read(ends[0], output + length, sizeof output - length);
        if (got <= 0)
            break;
        length += got;
        if (!memmem(output, length, arguments[1], strlen(arguments[1])))
            continue;
        printf("milliseconds=%.0f", milliseconds() - start);
        printf(" cpu_milliseconds=%.0f", processor_time(command));
        for (i = 0; i < 4; i++)
            if (before[i] >= 0)
                printf(" %s=%lld", names[i], statistic(statistics[i]) - before[i]);
        putchar('\n');
        kill(command, SIGKILL);
        wait(NULL);
        return 0;
    }
    wait(NULL);
    fwrite(output, 1, length, stderr);
    fprintf(stderr, "time-to-line: \"%s\" did not appear\n", arguments[1]);
    return 1;
}
