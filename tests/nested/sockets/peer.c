// In the guest, one connection after another, which costs no process: peer echo PORT, or peer dial PORT COUNT. Connections that nobody accepts, all
// at once: peer flood PORT COUNT.
// On the host, as ssh's ProxyCommand with ProxyUseFdpass: peer pass vsock-mux/PATH PORT.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

static void need(int good, const char *what, int number) {
    if (good) return;
    fprintf(stderr, "connection %d: ", number);
    perror(what);
    exit(1);
}

// Reads up to the end of the data, which has at most `size` bytes.
static ssize_t read_all(int connection, char *bytes, size_t size) {
    size_t length = 0;
    ssize_t count;
    while ((count = read(connection, bytes + length, size - length)) > 0) length += count;
    return count < 0 ? count : (ssize_t)length;
}

// Connects to a port of the guest through the Unix socket, and passes the connection to ssh.
static int pass(const char *host, const char *port) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char answer[80];
    snprintf(address.sun_path, sizeof address.sun_path, "%s", host + strlen("vsock-mux"));
    int connection = socket(AF_UNIX, SOCK_STREAM, 0), length = 0;
    need(connect(connection, (struct sockaddr *)&address, sizeof address) == 0, "connect", 0);
    dprintf(connection, "CONNECT %s\n", port);
    while (length < 79 && read(connection, answer + length, 1) == 1 && answer[length++] != '\n') continue;
    if (strncmp(answer, "OK ", 3)) return fprintf(stderr, "%.*s", length, answer), 1;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof connection)];
    } control = {.header = {CMSG_LEN(sizeof connection), SOL_SOCKET, SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &connection, sizeof connection);
    struct iovec byte = {"", 1};
    struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    need(sendmsg(STDOUT_FILENO, &message, 0) == 1, "sendmsg", 0);
    return 0;
}

// Begins all connections, and then waits until each has failed.
static int flood(const struct sockaddr_vm *address, int count) {
    struct pollfd *connections = calloc(count, sizeof *connections);
    int waits = 0;
    for (int number = 0; number < count; number++) {
        int connection = socket(AF_VSOCK, SOCK_STREAM, 0);
        need(connection >= 0 && fcntl(connection, F_SETFL, O_NONBLOCK) == 0, "socket", number);
        int begun = connect(connection, (const struct sockaddr *)address, sizeof *address);
        if (begun == 0) return fprintf(stderr, "connection %d is accepted\n", number), 1;
        waits += errno == EINPROGRESS;
        connections[number] = (struct pollfd){connection, POLLOUT, 0};
    }
    for (int number = 0; number < count; number++) {
        int error = 0;
        socklen_t size = sizeof error;
        need(poll(connections + number, 1, -1) == 1, "poll", number);
        need(getsockopt(connections[number].fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0, "error", number);
        if (!error && !(connections[number].revents & POLLERR))
            return fprintf(stderr, "connection %d is accepted\n", number), 1;
        close(connections[number].fd);
    }
    return printf("%d at once\n", waits), 0;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    if (strcmp(argv[1], "pass") == 0) return pass(argv[2], argv[3]);
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_port = atoi(argv[2])};
    char bytes[256], answer[256];
    if (strcmp(argv[1], "echo") == 0) {
        address.svm_cid = VMADDR_CID_ANY;
        int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
        need(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "bind", 0);
        need(listen(listener, 128) == 0, "listen", 0);
        for (int number = 0;; number++) {
            int connection = accept(listener, NULL, NULL);
            need(connection >= 0, "accept", number);
            ssize_t length = read_all(connection, bytes, sizeof bytes);
            need(length >= 0, "read", number);
            need(write(connection, bytes, length) == length, "write", number);
            close(connection);
        }
    }
    address.svm_cid = VMADDR_CID_HOST;
    int count = atoi(argv[3]);
    if (strcmp(argv[1], "flood") == 0) return flood(&address, count);
    for (int number = 0; number < count; number++) {
        int connection = socket(AF_VSOCK, SOCK_STREAM, 0);
        need(connect(connection, (struct sockaddr *)&address, sizeof address) == 0, "connect", number);
        int length = snprintf(bytes, sizeof bytes, "number %d", number);
        need(write(connection, bytes, length) == length, "write", number);
        need(shutdown(connection, SHUT_WR) == 0, "shutdown", number);
        ssize_t back = read_all(connection, answer, sizeof answer);
        need(back >= 0, "read", number);
        need(back == length && memcmp(bytes, answer, length) == 0, "other bytes", number);
        close(connection);
    }
    printf("%d connections\n", count);
}
