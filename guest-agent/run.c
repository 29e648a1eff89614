/* Runs a command and transfers its streams. */
#include "frames.h"

#define FLAG_PTY 1
#define MAX_STRINGS 8192
#define TIOCSPTLCK 0x40045431
#define TIOCGPTN 0x80045430
#define TIOCSWINSZ 0x5414
#define TIOCSCTTY 0x540e
#define SIG_SETMASK 2
#define SIG_BLOCK 0
/* The end-of-file character of a terminal. */
#define CONTROL_D 4

struct stream {
    int fd;
    /* Number of bytes that the host has granted. */
    u32 window;
};

static struct {
    long pid;
    int pty;
    int child_signal;
    int has_ended, is_input_over;
    u32 status;
    struct stream out[3];
    /* The command's input. */
    int input;
    u32 start, filled;
    u8 waiting[WINDOW_SIZE];
} session;

static char *arguments[MAX_STRINGS + 1], *environment[MAX_STRINGS + 8];
static u32 environment_count;

static void add_default(char *variable, const char *name)
{
    for (u32 i = 0; i < environment_count; i++)
        if (after(environment[i], name))
            return;
    environment[environment_count++] = variable;
}

static void set_window_size(int fd, const u8 *sizes)
{
    u16 size[4] = { 0 };
    memcpy(size, sizes, 4);
    call(__NR_ioctl, fd, TIOCSWINSZ, size);
}

/* Wait until the host has read the last frame and closes the connection, because closing it first could lose the frame. */
static void wait_for_hang_up(void) __attribute__((noreturn));
static void wait_for_hang_up(void)
{
    struct header header;
    at_hang_up = NULL;
    for (;;) {
        wait_frame(&header);
        drop_frame(&header);
    }
}

static void refuse(u32 what, long error) __attribute__((noreturn));
static void refuse(u32 what, long error)
{
    send_failure(what, error);
    wait_for_hang_up();
}

/* Creates a pseudo-terminal. Returns the number of its slave, or a negative error number. */
static long open_pty(int *master)
{
    int unlock = 0;
    u32 number = 0;
    long fd = call(__NR_open, "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return fd;
    *master = fd;
    long error = call(__NR_ioctl, fd, TIOCSPTLCK, &unlock);
    return error ? error : call(__NR_ioctl, fd, TIOCGPTN, &number) ?: (long)number;
}

static long open_slave(long number)
{
    char path[32] = "/dev/pts/", digits[12];
    int place = sizeof digits;
    digits[--place] = 0;
    do
        digits[--place] = '0' + number % 10;
    while (number /= 10);
    append(path, sizeof path, digits + place);
    return call(__NR_open, path, O_RDWR | O_NOCTTY);
}

/* Executes the command, in the child process. Returns only on an error, with a negative error number. */
static long execute(char *name)
{
    const char *path = "";
    char full[4096];
    long error = -ENOENT;
    if (strlen(name) == 0)
        return -ENOENT;
    for (const char *c = name; *c; c++)
        if (*c == '/')
            return call(__NR_execve, name, arguments, environment);
    for (u32 i = 0; i < environment_count; i++)
        if (after(environment[i], "PATH="))
            path = after(environment[i], "PATH=");
    while (*path) {
        u32 length = 0;
        while (*path && *path != ':' && length < sizeof full - 1)
            full[length++] = *path++;
        full[length] = 0;
        path += *path == ':';
        if (length && append(full, sizeof full, "/") && append(full, sizeof full, name)) {
            long one = call(__NR_execve, full, arguments, environment);
            if (one != -ENOENT && one != -ENOTDIR)
                error = one;
            if (error != -ENOENT && error != -EACCES)
                return error;
        }
    }
    return error;
}

static void child(const char *directory, const int *streams, long terminal, int report) __attribute__((noreturn));
static void child(const char *directory, const int *streams, long terminal, int report)
{
    u64 none = 0;
    u32 failure[2] = { NO_COMMAND, 0 };
    set_signal(SIGPIPE, 0);
    set_signal(SIGCHLD, 0);
    if (terminal >= 0) {
        call(__NR_setsid, 0);
        long slave = open_slave(terminal);
        if (slave < 0) {
            failure[1] = -slave;
            goto failed;
        }
        call(__NR_ioctl, slave, TIOCSCTTY, 0);
        for (int i = 0; i < 3; i++)
            call(__NR_dup2, slave, i);
        if (slave > 2)
            call(__NR_close, slave);
    } else {
        call(__NR_setpgid, 0, 0);
        for (int i = 0; i < 3; i++)
            call(__NR_dup2, streams[i], i);
    }
    /* Reset signals, because the command would inherit those that the agent or its parent ignores. */
    for (int signal = 1; signal <= LAST_SIGNAL; signal++)
        set_signal(signal, SIG_DEFAULT);
    call(__NR_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
    long error = call(__NR_chdir, directory);
    if (error) {
        failure[0] = NO_DIRECTORY;
    } else {
        error = execute(arguments[0]);
        if (error == -ENOENT && same(arguments[0], "lsvmbus"))
            list_vmbus();
    }
    failure[1] = -error;
failed:
    write_all(report, failure, sizeof failure);
    quit(127);
}

/* Moves descriptors above the standard ones, so that dup2 in the child cannot overwrite them. */
static int away(int fd)
{
    long moved = call(__NR_fcntl, fd, F_DUPFD_CLOEXEC, 10);
    call(__NR_close, fd);
    return moved;
}

static void open_pipe(int *ends)
{
    int made[2];
    long error = call(__NR_pipe2, made, O_CLOEXEC);
    if (error)
        refuse(NO_COMMAND, error);
    ends[0] = away(made[0]);
    ends[1] = away(made[1]);
}

static void signal_group(int signal)
{
    if (!session.pid)
        return;
    int foreground = 0;
    /* TIOCGPGRP */
    if (session.pty && !call(__NR_ioctl, session.out[1].fd, 0x540f, &foreground) && foreground > 1)
        call(__NR_kill, -foreground, signal);
    if (foreground != session.pid)
        call(__NR_kill, -session.pid, signal);
}

static void abandon(void)
{
    if (!session.has_ended) {
        signal_group(SIGHUP);
        signal_group(SIGCONT);
    }
}

static void close_input(void)
{
    if (session.input >= 0 && !session.pty)
        call(__NR_close, session.input);
    session.input = -1;
}

static void feed(void)
{
    while (session.filled && session.input >= 0) {
        u32 end = (session.start + session.filled) % WINDOW_SIZE;
        u32 part = end > session.start ? session.filled : WINDOW_SIZE - session.start;
        long count = EINTR_RETRY(call(__NR_write, session.input, session.waiting + session.start, part));
        if (count == -EAGAIN)
            return;
        if (count < 0) {
            close_input();
            break;
        }
        session.start = (session.start + count) % WINDOW_SIZE;
        session.filled -= count;
        u32 granted = count;
        /* The end-of-file character does not count as input of the host. */
        if (!session.is_input_over)
            send_now(WINDOW, STANDARD_INPUT, &granted, sizeof granted);
    }
    if (session.input < 0) {
        /* The command does not read it. Discard it, so that the host gets its window back. */
        if (session.filled && !session.is_input_over)
            send_now(WINDOW, STANDARD_INPUT, &session.filled, sizeof session.filled);
        session.filled = 0;
    }
    if (session.is_input_over && !session.filled && session.input >= 0 && !session.pty)
        close_input();
}

static void take_input(const u8 *bytes, u32 length)
{
    if (session.is_input_over || length > WINDOW_SIZE - session.filled)
        protocol_error();
    while (length) {
        u32 end = (session.start + session.filled) % WINDOW_SIZE;
        u32 part = WINDOW_SIZE - end < length ? WINDOW_SIZE - end : length;
        memcpy(session.waiting + end, bytes, part);
        session.filled += part;
        bytes += part;
        length -= part;
    }
}

static void take_frames(void)
{
    struct header header;
    u8 *payload;
    while ((payload = next_frame(&header))) {
        if (header.type == DATA && header.stream == STANDARD_INPUT) {
            take_input(payload, header.length);
        } else if (header.type == END_OF_STREAM && header.stream == STANDARD_INPUT) {
            if (session.is_input_over)
                protocol_error();
            if (session.pty) {
                static const u8 end = CONTROL_D;
                if (session.filled < WINDOW_SIZE)
                    take_input(&end, 1);
            }
            session.is_input_over = 1;
        } else if (header.type == WINDOW && (header.stream == STANDARD_OUTPUT || header.stream == STANDARD_ERROR)
                   && header.length == 4) {
            struct stream *stream = &session.out[header.stream];
            u32 more = read_u32(payload);
            if (more > WINDOW_SIZE || stream->window > WINDOW_SIZE - more)
                protocol_error();
            stream->window += more;
        } else if (header.type == SIGNAL && header.length == 4) {
            u32 signal = read_u32(payload);
            if (signal < 1 || signal > 64)
                protocol_error();
            if (!session.has_ended)
                signal_group(signal);
        } else if (header.type == RESIZE && header.length == 4) {
            if (session.pty)
                set_window_size(session.out[1].fd, payload);
        } else {
            protocol_error();
        }
        drop_frame(&header);
    }
    feed();
}

/* Sends output of the command. Returns 0 if there is none now, or no room for it. */
static int drain(int number)
{
    static u8 bytes[MAX_DATA];
    struct stream *stream = &session.out[number];
    u32 most = stream->window < MAX_DATA ? stream->window : MAX_DATA;
    if (stream->fd < 0 || !most || room_to_queue() < sizeof(struct header) + MAX_DATA)
        return 0;
    long count = EINTR_RETRY(call(__NR_read, stream->fd, bytes, most));
    if (count == -EAGAIN)
        return 0;
    if (count <= 0) {
        /* The end of a terminal is an error. The terminal stays open, because the host may still send input. */
        if (!session.pty)
            call(__NR_close, stream->fd);
        stream->fd = -1;
        return 0;
    }
    stream->window -= count;
    queue_frame(DATA, number, bytes, count);
    return 1;
}

/* The command has ended. Its status is sent after its output. */
static void finish(void)
{
    for (int i = STANDARD_OUTPUT; i <= STANDARD_ERROR; i++) {
        while (drain(i))
            ;
        struct stream *stream = &session.out[i];
        if (stream->fd >= 0) {
            /* A process that it left running may keep the stream open. Do not wait for that. */
            struct pollfd poll = { .fd = stream->fd, .events = POLLIN };
            call(__NR_poll, &poll, 1, 0);
            if (poll.revents & POLLIN)
                return;
        }
    }
    u32 status[2] = { session.status & 0x7f, session.status >> 8 & 0xff };
    send_now(END_OF_STREAM, STANDARD_OUTPUT, NULL, 0);
    send_now(END_OF_STREAM, STANDARD_ERROR, NULL, 0);
    send_now(EXITED, 0, status, sizeof status);
    wait_for_hang_up();
}

static void child_ended(void)
{
    u8 information[128];
    int status;
    while (call(__NR_read, session.child_signal, information, sizeof information) > 0)
        ;
    if (call(__NR_wait4, session.pid, &status, WNOHANG, NULL) == session.pid) {
        session.status = status;
        session.has_ended = 1;
    }
}

static void serve(void) __attribute__((noreturn));
static void serve(void)
{
    for (;;) {
        take_frames();
        if (session.has_ended)
            finish();
        struct pollfd polls[5] = {
            { .fd = host.fd, .events = POLLIN | (host.out ? POLLOUT : 0) },
            { .fd = session.child_signal, .events = POLLIN },
            { .fd = session.filled ? session.input : -1, .events = POLLOUT },
        };
        for (int i = STANDARD_OUTPUT; i <= STANDARD_ERROR; i++) {
            struct stream *stream = &session.out[i];
            int can = stream->window && room_to_queue() >= sizeof(struct header) + MAX_DATA;
            polls[2 + i] = (struct pollfd){ .fd = can ? stream->fd : -1, .events = POLLIN };
        }
        call(__NR_poll, polls, 5, -1);
        if (polls[0].revents & (POLLIN | POLLHUP | POLLERR))
            receive();
        if (polls[1].revents)
            child_ended();
        if (polls[2].revents)
            feed();
        for (int i = STANDARD_OUTPUT; i <= STANDARD_ERROR; i++)
            if (polls[2 + i].revents)
                drain(i);
        send_queued();
    }
}

/* Payload: flags, rows and columns (16 bits each), number of arguments, number of variables (32 bits each); then texts
 * that end with NUL: the directory, the arguments, the variables. */
void run(u8 *payload, u32 length)
{
    u32 place = 16;
    if (length < place)
        protocol_error();
    u32 flags = read_u32(payload), count = read_u32(payload + 8);
    environment_count = read_u32(payload + 12);
    if (!count || count > MAX_STRINGS || environment_count > MAX_STRINGS || flags > FLAG_PTY)
        protocol_error();
    const char *directory = read_text(payload, length, &place);
    for (u32 i = 0; i < count; i++)
        arguments[i] = read_text(payload, length, &place);
    for (u32 i = 0; i < environment_count; i++)
        environment[i] = read_text(payload, length, &place);
    if (place != length)
        protocol_error();
    add_default("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PATH=");
    add_default("HOME=/root", "HOME=");

    u64 mask = 1ul << (SIGCHLD - 1);
    call(__NR_rt_sigprocmask, SIG_BLOCK, &mask, NULL, sizeof mask);
    session.child_signal = away(call(__NR_signalfd4, -1, &mask, sizeof mask, O_NONBLOCK | O_CLOEXEC));
    set_nonblocking(session.child_signal);

    int pipes[3][2], report[2], streams[3] = { -1, -1, -1 };
    long terminal = -1;
    session.pty = flags & FLAG_PTY;
    session.out[0].fd = session.out[STANDARD_ERROR].fd = -1;
    open_pipe(report);
    if (session.pty) {
        int master = -1;
        terminal = open_pty(&master);
        if (terminal < 0)
            refuse(NO_COMMAND, terminal);
        master = away(master);
        set_window_size(master, payload + 4);
        session.input = session.out[STANDARD_OUTPUT].fd = master;
    } else {
        for (int i = 0; i < 3; i++) {
            open_pipe(pipes[i]);
            streams[i] = pipes[i][i ? 1 : 0];
        }
        session.input = pipes[0][1];
        session.out[STANDARD_OUTPUT].fd = pipes[1][0];
        session.out[STANDARD_ERROR].fd = pipes[2][0];
    }
    session.out[STANDARD_OUTPUT].window = session.out[STANDARD_ERROR].window = WINDOW_SIZE;

    session.pid = call(__NR_fork, 0);
    if (session.pid == 0)
        child(*directory ? directory : "/", streams, terminal, report[1]);
    call(__NR_close, report[1]);
    for (int i = 0; i < 3; i++)
        if (streams[i] >= 0)
            call(__NR_close, streams[i]);
    u32 failure[2];
    if (session.pid < 0)
        refuse(NO_COMMAND, session.pid);
    /* The descriptor closes at execve. */
    if (!read_all(report[0], failure, sizeof failure))
        refuse(failure[0], -(long)failure[1]);
    call(__NR_close, report[0]);
    set_nonblocking(session.input);
    for (int i = STANDARD_OUTPUT; i <= STANDARD_ERROR; i++)
        if (session.out[i].fd >= 0)
            set_nonblocking(session.out[i].fd);
    at_hang_up = abandon;
    u32 pid = session.pid;
    send_now(STARTED, 0, &pid, sizeof pid);
    serve();
}
