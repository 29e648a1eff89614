/* Mounts directories of the host at the start of the machine, and passes FUSE messages between the kernel and the host. */
#include "frames.h"

#define MS_RDONLY 1
#define MS_NOSUID 2
#define MS_NODEV 4
#define PR_SET_PDEATHSIG 1
/* The longest message: the data of one request, which the host limits to 256 KiB in FUSE_INIT, with its headers. */
#define MAX_MESSAGE (256 * 1024 + 8192)
/* The header of a reply: its length, an error number, and the request's number. */
#define REPLY_HEADER 16
#define NUMBER 8
/* The byte of the number whose highest bit is the host's mark. */
#define MARK 15
#define AF_UNIX 1
#define SOCK_SEQPACKET 5
#define MSG_DONTWAIT 0x40
/* Of a request: where its kind is, and for a release where the file's flags are, behind its header and the handle. */
#define KIND 4
#define RELEASE_FLAGS 48
/* Requests that wait for the next one have at most as many bytes. */
#define MAX_HELD (16 * 1024)
/* Size of a ring of the connection, each way: a small file fits, and a large read takes few interrupts. */
#define RING (128 * 1024)

enum { FORGET = 2, RELEASE = 18, RELEASE_DIRECTORY = 29, BATCH_FORGET = 42 };

static u8 message[MAX_MESSAGE + MAX_HELD];

/* No program waits for the answer, and it does not matter to the host when it hears of it. */
static int can_wait(const u8 *request)
{
    switch (read_u32(request + KIND)) {
    case FORGET:
    case BATCH_FORGET:
    case RELEASE_DIRECTORY:
        return 1;
    case RELEASE:
        /* The host may want to execute a file that was written. */
        return (read_u32(request + RELEASE_FLAGS) & O_ACCMODE) == O_RDONLY;
    default:
        return 0;
    }
}

static void pump_requests(int fuse, int server) __attribute__((noreturn));
static void pump_requests(int fuse, int server)
{
    u32 held = 0;
    for (;;) {
        long length = call(__NR_read, fuse, message + held, sizeof message - held);
        /* ENOENT: the request was interrupted before it was read. */
        if (length == -ENOENT || length == -EINTR || length == -EAGAIN)
            continue;
        if (length <= 0)
            quit(0);
        const u8 *request = message + held;
        held += length;
        /* It goes with the next one, and costs no signal of its own. */
        if (can_wait(request) && held <= MAX_HELD)
            continue;
        if (write_all(server, message, held))
            quit(0);
        held = 0;
    }
}

/*
 * Contents of files that the guest may read next (a message without a request, marked) wait in the kernel if a program reads the same
 * file at that moment, until the program has its reply. So another process, the filler, passes them on, and replies with data (marked, too)
 * do not wait for it. All other replies do: a reply with the attributes of a changed file must come after older contents of it.
 */
static struct {
    int filler;
    /* Messages that the filler has not passed on. */
    u32 filling;
    /* Replies that wait for it. */
    u32 held;
    u8 replies[256 * 1024];
} order;

static void pass_on(int fuse, const u8 *reply, u32 length)
{
    /* ENOENT: the requesting process has ended. */
    if (EINTR_RETRY(call(__NR_write, fuse, reply, length)) == -ENODEV)
        quit(0);
}

static void run_filler(int fuse, int socket) __attribute__((noreturn));
static void run_filler(int fuse, int socket)
{
    for (;;) {
        long length = EINTR_RETRY(call(__NR_read, socket, message, sizeof message));
        if (length <= 0)
            quit(0);
        /* A file that the kernel has forgotten is an error that does not matter. */
        pass_on(fuse, message, length);
        call(__NR_write, socket, "", 1);
    }
}

/* Reads what the filler has confirmed. Passes the held replies on once it is done. */
static void look_at_filler(int fuse, int flags)
{
    u8 confirmed;
    while (order.filling && EINTR_RETRY(call(__NR_recvfrom, order.filler, &confirmed, 1, flags)) == 1)
        order.filling--;
    u32 at = 0;
    if (order.filling)
        return;
    while (at < order.held) {
        u32 length = read_u32(order.replies + at);
        pass_on(fuse, order.replies + at, length);
        at += length;
    }
    order.held = 0;
}

static void take_reply(int fuse, u8 *reply, u32 length)
{
    int is_marked = reply[MARK] & 0x80;
    reply[MARK] &= 0x7f;
    if (is_marked && !read_u32(reply + NUMBER) && !read_u32(reply + NUMBER + 4)) {
        /* Without room, the guest reads the file when it needs it. */
        if (call(__NR_sendto, order.filler, reply, length, MSG_DONTWAIT) == length)
            order.filling++;
        return;
    }
    if (order.filling && !is_marked) {
        look_at_filler(fuse, MSG_DONTWAIT);
        if (order.filling && length > sizeof order.replies - order.held)
            look_at_filler(fuse, 0);
        if (order.filling) {
            memcpy(order.replies + order.held, reply, length);
            order.held += length;
            return;
        }
    }
    pass_on(fuse, reply, length);
}

static void pump_replies(int fuse, int server) __attribute__((noreturn));
static void pump_replies(int fuse, int server)
{
    u32 filled = 0;
    for (;;) {
        struct pollfd fds[2] = { { server, POLLIN, 0 }, { order.filler, POLLIN, 0 } };
        if (order.held) {
            call(__NR_poll, fds, 2, -1);
            if (fds[1].revents)
                look_at_filler(fuse, MSG_DONTWAIT);
            if (!fds[0].revents)
                continue;
        }
        long count = EINTR_RETRY(call(__NR_read, server, message + filled, sizeof message - filled));
        if (count <= 0)
            quit(0);
        filled += count;
        u32 at = 0;
        while (filled - at >= REPLY_HEADER) {
            u32 length = read_u32(message + at);
            if (length < REPLY_HEADER || length > MAX_MESSAGE)
                quit(0);
            if (length > filled - at)
                break;
            take_reply(fuse, message + at, length);
            at += length;
        }
        filled -= at;
        memmove(message, message + at, filled);
    }
}

/* One process passes on replies, a child requests, and another child what is read next. When the host closes the connection, all end, and the kernel fails
   pending requests. */
static long start_pumps(int fuse, int server)
{
    long child = call(__NR_fork, 0);
    if (child)
        return child < 0 ? child : 0;
    /* Signals of a terminal must not reach these processes. */
    call(__NR_setsid, 0);
    /* A kernel without Unix sockets reads each file when it needs it. */
    int sockets[2] = { -1, -1 };
    call(__NR_socketpair, AF_UNIX, SOCK_SEQPACKET, 0, sockets);
    for (int is_filler = 0; is_filler < 2; is_filler++) {
        child = call(__NR_fork, 0);
        if (child < 0)
            quit(1);
        if (!child) {
            call(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
            if (is_filler)
                run_filler(fuse, sockets[1]);
            pump_requests(fuse, server);
        }
    }
    order.filler = sockets[0];
    pump_replies(fuse, server);
}

static long mount_share(u32 port, int is_writable, const char *target)
{
    long fuse = call(__NR_open, "/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fuse < 0)
        return fuse;
    long server = connect_host(port, RING);
    if (server < 0)
        return server;
    char options[128] = "fd=", digits[12];
    int start = sizeof digits;
    digits[--start] = 0;
    long value = fuse;
    do
        digits[--start] = '0' + value % 10;
    while (value /= 10);
    append(options, sizeof options, digits + start);
    append(options, sizeof options, ",rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other");
    u32 flags = MS_NODEV | MS_NOSUID | (is_writable ? 0 : MS_RDONLY);
    long error = call(__NR_mount, "host", target, "fuse", flags, options);
    if (!error)
        error = start_pumps(fuse, server);
    call(__NR_close, fuse);
    call(__NR_close, server);
    return error;
}

/* The first word of a line is the host's port, the rest "ro" or "rw" and the directory, with a space between them. */
static void mount_or_end(char *word, char *rest)
{
    int is_writable = after(rest, "rw ") != NULL;
    const char *target = is_writable ? after(rest, "rw ") : after(rest, "ro ");
    long port = number(word);
    long error = target && port > 0 ? mount_share(port, is_writable, target) : -EINVAL;
    if (error) {
        say("cannot mount the host's directory at", target, error);
        power_off();
    }
}

void mount_shares(void)
{
    each_line("/shares.list", mount_or_end);
}
