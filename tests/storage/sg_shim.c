/*
 * Lets programs that use Linux's SG_IO talk to a SCSI target in another process.
 *
 * Preloaded, it makes the path in SG_SHIM_DEVICE open a connection to the Unix socket in SG_SHIM_SOCKET,
 * and SG_IO on it a request and an answer there. Status, sense data and residual are made of the
 * answer as Linux's hv_storvsc makes them of a packet, but for one thing: that driver hides all errors of INQUIRY
 * and MODE SENSE.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <scsi/sg.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_FDS = 1024, MAX_DATA = 1 << 20 };
static char ours[MAX_FDS];

struct request {
    uint32_t cdb_length, direction, length;
    uint8_t cdb[16];
};

struct answer {
    uint8_t srb_status, scsi_status, sense_length, reserved;
    uint32_t moved;
    uint8_t sense[20];
};

static int is_device(const char *path) {
    const char *device = getenv("SG_SHIM_DEVICE");
    return device && path && strcmp(path, device) == 0;
}

static int connect_target(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("SG_SHIM_SOCKET");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!path || fd < 0 || fd >= MAX_FDS || strlen(path) >= sizeof(address.sun_path))
        return -1;
    strcpy(address.sun_path, path);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -1;
    ours[fd] = 1;
    return fd;
}

#define OPEN(name)                                                             \
    int name(const char *path, int flags, ...) {                               \
        va_list arguments;                                                     \
        va_start(arguments, flags);                                            \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0; \
        va_end(arguments);                                                     \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);         \
        return is_device(path) ? connect_target() : real(path, flags, mode);   \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    if (fd >= 0 && fd < MAX_FDS)
        ours[fd] = 0;
    return real(fd);
}

/* sg3_utils looks whether it has a character device of the sg driver. */
static int pretend(struct stat *status) {
    memset(status, 0, sizeof(*status));
    status->st_mode = S_IFCHR | 0600;
    status->st_rdev = makedev(21, 0);
    return 0;
}

#define STAT(name, fname)                                                                  \
    int name(const char *path, struct stat *status) {                                      \
        int (*real)(const char *, struct stat *) = dlsym(RTLD_NEXT, #name);                \
        return is_device(path) ? pretend(status) : real(path, status);                     \
    }                                                                                      \
    int fname(int fd, struct stat *status) {                                               \
        int (*real)(int, struct stat *) = dlsym(RTLD_NEXT, #fname);                        \
        return fd >= 0 && fd < MAX_FDS && ours[fd] ? pretend(status) : real(fd, status);   \
    }
STAT(stat, fstat)
/* On 64-bit machines these are the same. */
int stat64_(const char *path, struct stat *status) __asm__("stat64");
int fstat64_(int fd, struct stat *status) __asm__("fstat64");
int stat64_(const char *path, struct stat *status) { return stat(path, status); }
int fstat64_(int fd, struct stat *status) { return fstat(fd, status); }
int open_2(const char *path, int flags) __asm__("__open_2");
int open64_2(const char *path, int flags) __asm__("__open64_2");
int open_2(const char *path, int flags) { return open(path, flags); }
int open64_2(const char *path, int flags) { return open64(path, flags); }

static int move(int fd, void *data, size_t length, int out) {
    for (char *at = data; length > 0;) {
        ssize_t count = out ? send(fd, at, length, MSG_NOSIGNAL) : read(fd, at, length);
        if (count <= 0)
            return -1;
        at += count;
        length -= count;
    }
    return 0;
}

/* Between the caller's memory, in one piece or many, and one buffer. */
static void copy(struct sg_io_hdr *io, char *buffer, size_t length, int out) {
    struct iovec one = {io->dxferp, io->dxfer_len};
    struct iovec *pieces = io->iovec_count ? io->dxferp : &one;
    int count = io->iovec_count ? io->iovec_count : 1;
    for (int i = 0; i < count && length > 0; i++) {
        size_t now = pieces[i].iov_len < length ? pieces[i].iov_len : length;
        if (out)
            memcpy(buffer, pieces[i].iov_base, now);
        else
            memcpy(pieces[i].iov_base, buffer, now);
        buffer += now;
        length -= now;
    }
}

static int sg_io(int fd, struct sg_io_hdr *io) {
    static __thread char data[MAX_DATA];
    struct request request = {.cdb_length = io->cmd_len, .length = io->dxfer_len};
    struct answer answer;
    int out = io->dxfer_direction == SG_DXFER_TO_DEV, in = io->dxfer_direction == SG_DXFER_FROM_DEV;
    if (io->cmd_len > sizeof(request.cdb) || io->dxfer_len > MAX_DATA) {
        errno = EINVAL;
        return -1;
    }
    request.direction = out ? 0 : in ? 1 : 2;
    if (!out && !in)
        request.length = 0;
    memcpy(request.cdb, io->cmdp, io->cmd_len);
    if (out)
        copy(io, data, request.length, 1);
    if (move(fd, &request, sizeof(request), 1) || (out && move(fd, data, request.length, 1)) ||
        move(fd, &answer, sizeof(answer), 0) || (in && move(fd, data, request.length, 0))) {
        errno = EIO;
        return -1;
    }
    if (in)
        copy(io, data, request.length, 0);
    uint8_t srb = answer.srb_status & 0x3f;
    uint32_t moved = answer.srb_status == 1 || answer.srb_status == 0x12 ? answer.moved : 0;
    io->status = answer.scsi_status;
    io->masked_status = (answer.scsi_status >> 1) & 0x1f;
    io->host_status = srb == 0x20 ? 1 : srb == 4 && !(answer.srb_status & 0x80) ? 7 : 0;
    io->driver_status = 0;
    io->resid = request.length - (moved < request.length ? moved : request.length);
    io->sb_len_wr = 0;
    if (answer.scsi_status == 2 && (answer.srb_status & 0x80)) {
        io->sb_len_wr = answer.sense_length < io->mx_sb_len ? answer.sense_length : io->mx_sb_len;
        memcpy(io->sbp, answer.sense, io->sb_len_wr);
        io->driver_status = 8;
    }
    io->info = io->status || io->host_status ? SG_INFO_CHECK : SG_INFO_OK;
    return 0;
}

int ioctl(int fd, unsigned long number, ...) {
    va_list arguments;
    va_start(arguments, number);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (fd < 0 || fd >= MAX_FDS || !ours[fd]) {
        int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
        return real(fd, number, argument);
    }
    switch (number) {
    case SG_IO:
        return sg_io(fd, argument);
    case SG_GET_VERSION_NUM:
        *(int *)argument = 30536;
        return 0;
    case SG_SET_TIMEOUT:
    case SG_SET_RESERVED_SIZE:
        return 0;
    case SG_GET_RESERVED_SIZE:
        *(int *)argument = MAX_DATA;
        return 0;
    default:
        errno = ENOTTY;
        return -1;
    }
}
