/* The agent of Viridian in a guest: runs commands and copies files for the host. See docs/agent.md. */
#include "frames.h"

#define AF_UNIX 1
#define AF_VSOCK 40
#define SOCK_STREAM 1
#define SOL_SOCKET 1
#define SO_SNDBUF 7
#define SO_RCVBUF 8
#define SOCK_CLOEXEC O_CLOEXEC
#define ANY_CID 0xffffffffu
#define HOST_CID 2
/* SO_VM_SOCKETS_CONNECT_TIMEOUT, with a struct timeval of two longs. */
#define CONNECT_TIMEOUT 6
#define CONNECT_SECONDS 120
/* The port on which the agent listens, and to which PID 1 connects on the host: "VI". */
#define PORT 0x5649

struct vsock_address {
    u16 family, reserved;
    u32 port, cid;
    u8 zero[4];
};

struct unix_address {
    u16 family;
    char path[108];
};

static int is_first;

int connect_host(u32 port, u32 ring)
{
    struct vsock_address address = { .family = AF_VSOCK, .port = port, .cid = HOST_CID };
    long fd = call(__NR_socket, AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    /* The kernel's default of two seconds is too short for a guest whose host is busy. */
    long limit[2] = { CONNECT_SECONDS, 0 };
    call(__NR_setsockopt, fd, AF_VSOCK, CONNECT_TIMEOUT, limit, sizeof limit);
    if (ring) {
        /* The kernel doubles what it is told. */
        u32 half = ring / 2;
        call(__NR_setsockopt, fd, SOL_SOCKET, SO_SNDBUF, &half, sizeof half);
        call(__NR_setsockopt, fd, SOL_SOCKET, SO_RCVBUF, &half, sizeof half);
    }
    long error = EINTR_RETRY(call(__NR_connect, fd, &address, sizeof address));
    if (error) {
        call(__NR_close, fd);
        return error;
    }
    return fd;
}

void set_signal(int signal, long handler)
{
    struct {
        long handler;
        u64 flags;
        void *restorer;
        u64 mask;
    } action = { .handler = handler };
    call(__NR_rt_sigaction, signal, &action, NULL, sizeof action.mask);
}

/* A copy of a payload, whose texts are used while further frames are received. */
static u8 kept[MAX_PAYLOAD];

static u32 keep(const struct header *header, const u8 *payload)
{
    memcpy(kept, payload, header->length);
    drop_frame(header);
    return header->length;
}

/* The first process must not end before the machine, so another one runs the command. When that has ended, the machine powers off. */
static void run_in_child(u32 length)
{
    int status;
    long child = call(__NR_fork, 0);
    if (child == 0) {
        at_hang_up = NULL;
        run(kept, length);
    }
    if (child < 0) {
        send_failure(NO_COMMAND, child);
        power_off();
    }
    call(__NR_close, host.fd);
    while (call(__NR_wait4, -1, &status, 0, NULL) != child)
        ;
    power_off();
}

/* Serves the connection to its end. */
static void serve(int fd) __attribute__((noreturn));
static void serve(int fd)
{
    static const u8 hello[8] = { 'V', 'I', 'R', 'A', PROTOCOL, 0, 0, 0 };
    struct header header;
    host.fd = fd;
    set_nonblocking(fd);
    call(__NR_fcntl, fd, F_SETFD, 1);
    set_signal(SIGPIPE, SIG_IGNORE);
    send_now(HELLO, 0, hello, sizeof hello);
    u8 *payload = wait_frame(&header);
    if (header.type != HELLO || header.length != sizeof hello || memcmp(payload, hello, sizeof hello))
        protocol_error();
    drop_frame(&header);
    for (;;) {
        u32 length;
        payload = wait_frame(&header);
        switch (header.type) {
        case RUN:
            length = keep(&header, payload);
            if (is_first)
                run_in_child(length);
            run(kept, length);
            break;
        case PUT:
            if (is_first)
                protocol_error();
            length = keep(&header, payload);
            put_file(kept, length);
            break;
        case GET:
            if (is_first)
                protocol_error();
            get_file(payload, header.length);
            break;
        default:
            protocol_error();
        }
    }
}

static void listen_on(const void *address, u32 size, int family) __attribute__((noreturn));
static void listen_on(const void *address, u32 size, int family)
{
    long fd = call(__NR_socket, family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    long error = fd < 0 ? fd : call(__NR_bind, fd, address, size);
    if (!error)
        error = call(__NR_listen, fd, 16);
    if (error) {
        say("cannot listen", family == AF_VSOCK ? "(AF_VSOCK: is hv_sock loaded, and the port free?)" : NULL, error);
        quit(1);
    }
    call(__NR_write, 1, "listening\n", 10);
    for (;;) {
        struct vsock_address peer = { .family = 0 };
        u32 length = sizeof peer;
        long connection = EINTR_RETRY(call(__NR_accept4, fd, &peer, &length, SOCK_CLOEXEC));
        if (connection < 0) {
            say("cannot take a connection", NULL, connection);
            if (connection != -ECONNABORTED)
                quit(1);
            continue;
        }
        /* Every user of the guest could connect through the loopback of AF_VSOCK. */
        if (family == AF_VSOCK && peer.cid != HOST_CID) {
            call(__NR_close, connection);
            continue;
        }
        long child = call(__NR_fork, 0);
        if (child == 0) {
            call(__NR_close, fd);
            /* This process waits for its command itself, so it needs SIGCHLD. */
            set_signal(SIGCHLD, SIG_DEFAULT);
            serve(connection);
        }
        call(__NR_close, connection);
    }
}

static void usage(void)
{
    static const char text[] =
        "viridian-agent: runs commands and copies files for a Viridian host\n"
        "  viridian-agent               listens on AF_VSOCK port 22089\n"
        "  viridian-agent --port PORT   listens on another AF_VSOCK port\n"
        "  viridian-agent --unix PATH   listens on a Unix socket\n"
        "  viridian-agent --fd N        serves one connection, which is open as descriptor N\n"
        "As the first process of an initramfs it sets up the machine and calls its host.\n";
    call(__NR_write, 2, text, sizeof text - 1);
    quit(2);
}

void agent_main(long *stack)
{
    long count = stack[0];
    char **words = (char **)(stack + 1);
    is_first = call(__NR_getpid, 0) == 1;
    if (is_first) {
        start_machine();
        mount_shares();
        int fd = connect_host(PORT, 0);
        if (fd < 0) {
            say("cannot reach the host over AF_VSOCK", NULL, fd);
            power_off();
        }
        at_hang_up = power_off;
        serve(fd);
    }
    if (count == 3 && same(words[1], "--fd") && number(words[2]) >= 0)
        serve(number(words[2]));
    /* The kernel reaps the processes of ended connections. */
    set_signal(SIGCHLD, SIG_IGNORE);
    if (count == 1 || (count == 3 && same(words[1], "--port") && number(words[2]) >= 0)) {
        u32 port = count == 1 ? PORT : number(words[2]);
        struct vsock_address address = { .family = AF_VSOCK, .port = port, .cid = ANY_CID };
        listen_on(&address, sizeof address, AF_VSOCK);
    }
    if (count == 3 && same(words[1], "--unix")) {
        struct unix_address address = { .family = AF_UNIX };
        if (!append(address.path, sizeof address.path, words[2]))
            usage();
        listen_on(&address, sizeof address, AF_UNIX);
    }
    usage();
}
