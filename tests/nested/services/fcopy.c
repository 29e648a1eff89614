/*
 * In the guest: receives files of the host's file copy through uio, as Linux has it since 6.10: fcopy [-n]
 *
 * Stands for the kernel's hv_fcopy_uio_daemon, which no package of Debian has, and processes one packet for each interrupt, too. Names are ASCII.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096
#define PACKET 8192

enum { NEGOTIATE = 0, FILE_COPY = 7 };
enum { START, DATA, COMPLETE, CANCEL };
enum { OVERWRITE = 1, MAKE_PATH = 2 };
enum { SUCCESS = 0, FAIL = 0x80004005, EXISTS = 0x80070050, DISK_FULL = 0x80070070 };

/* The first page of a ring; its data follow. */
struct ring {
    _Atomic uint32_t write, read, mask;
    uint8_t rest[PAGE - 12];
    uint8_t data[];
};

struct descriptor {
    uint16_t type, offset8, length8, flags;
    uint64_t transaction;
};

/* The headers of the pipe and of the integration service, then the body. */
struct message {
    uint32_t pipe_kind, pipe_length;
    uint16_t framework[2], type, version[2], size;
    uint32_t status;
    uint8_t transaction, flags, reserved[2];
    uint8_t body[PACKET];
};

static struct ring *outgoing, *incoming;
static uint32_t ring_size;
static int target = -1;
static char path[600];

static void need(int good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(1);
}

static uint32_t copy_from(uint32_t at, void *bytes, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        ((uint8_t *)bytes)[i] = incoming->data[(at + i) % ring_size];
    return (at + length) % ring_size;
}

static uint32_t copy_to(uint32_t at, const void *bytes, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        outgoing->data[(at + i) % ring_size] = ((const uint8_t *)bytes)[i];
    return (at + length) % ring_size;
}

/* Takes a packet. Returns the length of its message, 0 if there is none. */
static uint32_t take(struct descriptor *descriptor, struct message *message)
{
    uint32_t at = incoming->read;
    if (at == incoming->write)
        return 0;
    copy_from(at, descriptor, sizeof *descriptor);
    uint32_t header = descriptor->offset8 * 8, length = descriptor->length8 * 8 - header;
    if (length > sizeof *message)
        exit(3);
    copy_from((at + header) % ring_size, message, length);
    /* The index of its start follows each packet. */
    incoming->read = (at + descriptor->length8 * 8 + 8) % ring_size;
    return length;
}

/* Sends the message back. The host waits for it, so the ring has room. */
static void answer(const struct descriptor *request, const struct message *message, uint32_t length)
{
    struct descriptor descriptor = {request->type, 2, (sizeof descriptor + length) / 8, 0, request->transaction};
    uint64_t start = (uint64_t)outgoing->write << 32;
    uint32_t at = copy_to(outgoing->write, &descriptor, sizeof descriptor);
    at = copy_to(at, message, length);
    outgoing->write = copy_to(at, &start, sizeof start);
}

static void append_text(char *end, const uint8_t *field)
{
    while (end < path + sizeof path - 1 && (field[0] || field[1])) {
        *end++ = field[1] || field[0] > 126 ? 'X' : field[0];
        field += 2;
    }
    *end = 0;
}

static uint32_t start(const uint8_t *body)
{
    uint32_t flags;
    memcpy(&flags, body + 1076, sizeof flags);
    append_text(path, body + 556);
    for (char *slash = path; flags & MAKE_PATH && (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        int made = mkdir(path, 0755);
        *slash = '/';
        if (made && errno != EEXIST)
            return FAIL;
    }
    append_text(path + strlen(path), body + 36);
    target = open(path, O_WRONLY | O_CREAT | (flags & OVERWRITE ? O_TRUNC : O_EXCL), 0744);
    return target >= 0 ? SUCCESS : errno == EEXIST ? EXISTS : FAIL;
}

static uint32_t write_part(const uint8_t *body)
{
    uint64_t offset;
    uint32_t length;
    memcpy(&offset, body + 40, sizeof offset);
    memcpy(&length, body + 48, sizeof length);
    if (length > 6144)
        return FAIL;
    errno = 0;
    ssize_t written = pwrite(target, body + 52, length, offset);
    if (written == (ssize_t)length)
        return SUCCESS;
    /* A short write has filled the disk. */
    return written >= 0 || errno == ENOSPC ? DISK_FULL : FAIL;
}

static uint32_t process(const uint8_t *body)
{
    uint32_t operation;
    memcpy(&operation, body, sizeof operation);
    switch (operation) {
    case START:
        return start(body);
    case DATA:
        return write_part(body);
    case CANCEL:
        unlink(path);
        /* fall through */
    case COMPLETE:
        close(target);
        return SUCCESS;
    default:
        return FAIL;
    }
}

static void negotiate(struct message *message)
{
    const uint16_t chosen[] = {1, 1, 0, 0, 3, 0, 1, 1};
    message->size = sizeof chosen;
    memcpy(message->body, chosen, sizeof chosen);
}

/* Opens the device, which opens the channel, and maps the rings. */
static int open_device(void)
{
    char name[300];
    unsigned long size = 0;
    glob_t found;
    need(!glob("/sys/bus/vmbus/devices/eb765408-105f-49b6-b4aa-c123b64d17d4/uio/uio*", 0, NULL, &found), "the device");
    snprintf(name, sizeof name, "%s/maps/map0/size", found.gl_pathv[0]);
    FILE *file = fopen(name, "r");
    need(file && fscanf(file, "%lx", &size) == 1, name);
    snprintf(name, sizeof name, "/dev/%s", strrchr(found.gl_pathv[0], '/') + 1);
    int uio = open(name, O_RDWR);
    need(uio >= 0, name);
    outgoing = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, uio, 0);
    need(outgoing != MAP_FAILED, "the rings");
    incoming = (struct ring *)((uint8_t *)outgoing + size / 2);
    ring_size = size / 2 - PAGE;
    return uio;
}

int main(void)
{
    static struct message message;
    struct descriptor descriptor;
    int uio = open_device();
    for (;;) {
        /* Asks for interrupts, and signals the host, which may have sent something before. */
        uint32_t on = 1, count;
        if (write(uio, &on, sizeof on) != sizeof on)
            return 2;
        uint32_t length = take(&descriptor, &message);
        if (!length) {
            if (read(uio, &count, sizeof count) != sizeof count)
                return 2;
            continue;
        }
        if (message.type == NEGOTIATE)
            negotiate(&message);
        else if (message.type == FILE_COPY)
            message.status = process(message.body);
        message.flags = 1 | 4; /* a reply of a transaction */
        answer(&descriptor, &message, length);
    }
}
