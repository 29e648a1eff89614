/* Says how long a command takes until it prints a marker: time-to-line MARKER COMMAND [ARGUMENT]...
 *
 * Prints the milliseconds from just before the command's start to the arrival of MARKER on its standard output,
 * lets the command end, and exits with 0; with 1 where the marker did not come, after copying what did. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

int main(int count, char **arguments)
{
    static char output[1 << 20];
    size_t length = 0;
    double start, found = -1;
    int ends[2];
    ssize_t got;

    if (count < 3) {
        fputs("usage: time-to-line MARKER COMMAND [ARGUMENT]...\n", stderr);
        return 2;
    }
    if (pipe(ends) < 0) {
        perror("pipe");
        return 2;
    }
    start = milliseconds();
    switch (fork()) {
    case -1:
        perror("fork");
        return 2;
    case 0:
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execvp(arguments[2], arguments + 2);
        perror(arguments[2]);
        _exit(127);
    }
    close(ends[1]);
    /* Reading on after the marker keeps the command from a broken pipe; what is beyond the buffer is dropped. */
    for (;;) {
        if (length == sizeof output)
            length /= 2;
        got = read(ends[0], output + length, sizeof output - length);
        if (got <= 0)
            break;
        length += got;
        if (found < 0 && memmem(output, length, arguments[1], strlen(arguments[1])))
            found = milliseconds() - start;
    }
    wait(NULL);
    if (found < 0) {
        fwrite(output, 1, length, stderr);
        fprintf(stderr, "time-to-line: \"%s\" never came\n", arguments[1]);
        return 1;
    }
    printf("%.0f\n", found);
    return 0;
}
