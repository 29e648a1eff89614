/*
 * Runs a VMM and looks at its guest's screen by VNC: screen-viewer SOCKET ENCODING COMMAND [ARGUMENT]...
 *
 * The guest is scripts/lib/screen-jobs.c, which marks sections on its console. For each, this prints the section and
 *
 *   seconds   its length
 *   updates   updates that the viewer received, and
 *   bytes     their length
 *   cpu       seconds of a processor that the VMM took, and
 *   server    the part of it outside of the threads of virtual processors
 *   wakes     how often threads of the VMM, apart from these, slept and were woken
 *   latency   milliseconds from each # on the console until the next update was received: the median, and
 *   worst     the most
 *
 * The viewer accepts only one encoding beside CopyRect, 7 (Tight) or 16 (ZRLE), whose data it reads and drops. It asks for the next
 * changes when it has received some. All other output of the guest goes to standard error.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int child, input, output, viewer = -1, encoding, width, height, bytes_a_pixel = 4;
static long updates, bytes;
static double written;
static double latencies[1000];
static int latency_count;

static void need(int is_so, const char *what)
{
    if (is_so)
        return;
    perror(what);
    if (child)
        kill(child, SIGKILL);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void get(void *to, size_t length)
{
    for (size_t at = 0; at < length;) {
        ssize_t got = read(viewer, (char *)to + at, length - at);
        need(got > 0, "the VNC server");
        at += got;
    }
    bytes += length;
}

static void skip(size_t length)
{
    static char buffer[1 << 16];
    for (size_t part; length; length -= part)
        get(buffer, part = length < sizeof buffer ? length : sizeof buffer);
}

static unsigned number(unsigned length)
{
    unsigned char buffer[4];
    unsigned value = 0;
    get(buffer, length);
    for (unsigned at = 0; at < length; at++)
        value = value << 8 | buffer[at];
    return value;
}

static void put(const void *from, size_t length)
{
    need(write(viewer, from, length) == (ssize_t)length, "the VNC server");
}

static void ask(int incremental)
{
    unsigned char message[10] = {3, incremental, 0, 0, 0, 0, width >> 8, width, height >> 8, height};
    put(message, sizeof message);
}

static void connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[13] = {0};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    viewer = socket(AF_UNIX, SOCK_STREAM, 0);
    need(!connect(viewer, (struct sockaddr *)&address, sizeof address), path);
    get(text, 12);
    put("RFB 003.008\n", 12);
    unsigned kinds = number(1);
    skip(kinds);
    put("\1", 1);
    need(number(4) == 0, "the security type None");
    put("\1", 1);
    width = number(2);
    height = number(2);
    skip(16);
    skip(number(4));
    unsigned char format[20] = {0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0};
    unsigned char known[] = {2, 0, 0, 3, 0, 0, 0, encoding, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0x21};
    put(format, sizeof format);
    put(known, sizeof known);
    ask(0);
}

/* Reads the length of compressed data in Tight. */
static size_t tight_length(void)
{
    size_t length = 0;
    for (unsigned shift = 0; shift <= 14; shift += 7) {
        unsigned byte = number(1);
        length |= (size_t)(byte & (shift == 14 ? 0xff : 0x7f)) << shift;
        if (!(byte & 0x80))
            break;
    }
    return length;
}

static void tight(size_t columns, size_t lines)
{
    unsigned control = number(1) >> 4;
    if (control == 8)
        return skip(3);
    if (control == 9)
        return skip(tight_length());
    need(control < 8, "an encoding that Tight has");
    unsigned filter = control & 4 ? number(1) : 0, colours = 0;
    if (filter == 1) {
        colours = number(1) + 1;
        skip(3 * colours);
    }
    size_t line = filter != 1 ? 3 * columns : colours == 2 ? (columns + 7) / 8 : columns;
    skip(line * lines < 12 ? line * lines : tight_length());
}

static void take_update(void)
{
    unsigned kind = number(1);
    if (kind == 2) /* a bell */
        return;
    if (kind == 3) { /* a clipboard */
        skip(3);
        skip(number(4));
        return;
    }
    need(kind == 0, "an update");
    skip(1);
    int is_drawn = 0;
    for (unsigned count = number(2); count; count--) {
        unsigned place[4] = {number(2), number(2), number(2), number(2)};
        size_t columns = place[2], lines = place[3];
        int kind = (int)number(4);
        if (kind == -223) {
            width = columns;
            height = lines;
            continue;
        }
        is_drawn = 1;
        if (kind == 0)
            skip(columns * lines * bytes_a_pixel);
        else if (kind == 1)
            skip(4);
        else if (kind == 7)
            tight(columns, lines);
        else if (kind == 16)
            skip(number(4));
        else
            need(0, "an encoding that was asked for");
    }
    if (is_drawn) {
        updates++;
        if (written && latency_count < 1000)
            latencies[latency_count++] = (now() - written) * 1e3;
        written = 0;
    }
    ask(1);
}

/* What a VMM has used: processors in all, and outside of its virtual processors; how often these threads slept. */
struct usage { double cpu, server; long wakes; };

static struct usage usage(void)
{
    struct usage usage = {0};
    char path[300], line[200];
    snprintf(path, sizeof path, "/proc/%d/task", child);
    DIR *directory = opendir(path);
    need(directory != NULL, path);
    for (struct dirent *task; (task = readdir(directory));) {
        double ran = 0;
        long sleeps = 0;
        char name[64] = "";
        if (task->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", child, task->d_name);
        FILE *file = fopen(path, "r");
        if (file && fgets(line, sizeof line, file))
            ran = atof(line) / 1e9;
        if (file)
            fclose(file);
        snprintf(path, sizeof path, "/proc/%d/task/%s/status", child, task->d_name);
        file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file)) {
            sscanf(line, "Name: %63[^\n]", name);
            sscanf(line, "voluntary_ctxt_switches: %ld", &sleeps);
        }
        if (file)
            fclose(file);
        int is_processor = strstr(name, "/vp") || !strncmp(name, "CPU ", 4);
        usage.cpu += ran;
        usage.server += is_processor ? 0 : ran;
        usage.wakes += is_processor ? 0 : sleeps;
    }
    closedir(directory);
    return usage;
}

static int in_order(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

static void take_line(char *line, const char *path)
{
    static struct usage before;
    static double begun;
    if (!strncmp(line, "measure begin ", 14)) {
        updates = bytes = latency_count = 0;
        before = usage();
        begun = now();
    } else if (!strncmp(line, "measure end ", 12)) {
        double ended = now();
        struct usage after = usage();
        printf("%s seconds=%.2f updates=%ld bytes=%ld cpu=%.3f server=%.3f wakes=%ld", line + 12, ended - begun, updates, bytes,
               after.cpu - before.cpu, after.server - before.server, after.wakes - before.wakes);
        if (latency_count) {
            qsort(latencies, latency_count, sizeof *latencies, in_order);
            printf(" latency=%.2f worst=%.2f", latencies[latency_count / 2], latencies[latency_count - 1]);
        }
        printf("\n");
        fflush(stdout);
    } else if (!strcmp(line, "connect")) {
        connect_to(path);
    } else {
        fprintf(stderr, "%s\n", line);
        return;
    }
    need(write(input, "\n", 1) == 1, "the VMM's input");
}

int main(int count, char **arguments)
{
    int to_child[2], from_child[2];
    need(count > 3 && !pipe(to_child) && !pipe(from_child), "usage: screen-viewer SOCKET ENCODING COMMAND");
    encoding = atoi(arguments[2]);
    signal(SIGPIPE, SIG_IGN);
    child = fork();
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(to_child[0], 0);
        dup2(from_child[1], 1);
        execv(arguments[3], arguments + 3);
        perror(arguments[3]);
        _exit(127);
    }
    close(to_child[0]);
    close(from_child[1]);
    input = to_child[1];
    output = from_child[0];
    static char line[1 << 12];
    size_t length = 0;
    for (;;) {
        struct pollfd files[2] = {{output, POLLIN, 0}, {viewer, POLLIN, 0}};
        poll(files, 2, -1);
        /* The console first: what is seen was written before. */
        if (files[0].revents) {
            char part[512];
            ssize_t got = read(output, part, sizeof part);
            if (got <= 0)
                break;
            for (ssize_t at = 0; at < got; at++) {
                if (part[at] == '#' && length == 0)
                    written = now();
                else if (part[at] == '\n' || length + 1 == sizeof line) {
                    line[length] = 0;
                    length = 0;
                    take_line(line, arguments[1]);
                } else if (part[at] != '\r')
                    line[length++] = part[at];
            }
        }
        char next;
        if (files[1].revents && recv(viewer, &next, 1, MSG_PEEK) == 1) {
            take_update();
        } else if (files[1].revents) { /* The VMM has ended. */
            close(viewer);
            viewer = -1;
        }
    }
    int status;
    waitpid(child, &status, 0);
    return 0;
}
