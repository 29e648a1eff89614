/*
 * Sockets of a guest. With `driver=good`, the driver connects to the host, accepts its connections, as Linux does, and powers
 * off. Otherwise a table of drivers violates the protocol, and the exit code says whether the host handled all of them.
 */
#include "session.h"
#include "socket.h"

/* Ports: of a listener on the host, without a listener, and of the guest's listener. */
#define ECHO_PORT 2048
#define NOBODY 2049
#define GUEST_PORT 1024

#define BLOCKS 100

static struct socket sockets[2];

static uint8_t expected(unsigned place)
{
    return place % 251;
}

/* Sends numbered bytes to the host's echo, closes this direction, and receives them. */
static bool is_echoed(struct socket *socket)
{
    static uint8_t block[SOCKET_MAX_SENT];
    unsigned sent = 0, received = 0;
    bool right = true;
    for (unsigned number = 0; number < BLOCKS; number++) {
        for (unsigned i = 0; i < sizeof block; i++)
            block[i] = expected(sent++);
        if (!socket_send(socket, block, sizeof block))
            return FAILED("block %u is not sent", number);
        /* Receive meanwhile, or both sides would wait for room. */
        if (!socket_receive(socket))
            return false;
        for (unsigned i = 0; i < socket->length; i++)
            right &= socket->received.data[i] == expected(received++);
    }
    if (!socket_end(socket))
        return FAILED("the end is not sent");
    while (socket_receive(socket) && socket->length)
        for (unsigned i = 0; i < socket->length; i++)
            right &= socket->received.data[i] == expected(received++);
    return CHECK("the host's data ends", !socket->length) && CHECK_EQUAL("all bytes are echoed", received, sent) &&
           CHECK("the echoed bytes are the same", right) && socket_finish(socket);
}

/* Echoes the host's data until the host closes its direction, and then closes this one. */
static bool serve(struct socket *socket)
{
    while (socket_receive(socket) && socket->length)
        for (unsigned sent = 0, part; sent < socket->length; sent += part) {
            part = socket->length - sent < SOCKET_MAX_SENT ? socket->length - sent : SOCKET_MAX_SENT;
            if (!socket_send(socket, socket->received.data + sent, part))
                return FAILED("the echo is not sent");
        }
    return socket_end(socket) && socket_finish(socket);
}

static bool use(void)
{
    const struct offer *none = NULL;
    CHECK("a connection to a port without a listener is refused", socket_ask(NOBODY, 5000, &none) == REFUSED);
    if (!socket_connect(&sockets[0], ECHO_PORT, 5001, 0) || !is_echoed(&sockets[0]))
        return false;
    print("listening\n");
    for (unsigned round = 0; round < 3; round++)
        if (!socket_accept(&sockets[1], GUEST_PORT, 1) || !serve(&sockets[1]))
            return false;
    return true;
}

int main(void)
{
    return session_of_drivers(use, hostile_tests, hostile_test_count);
}
