/*
 * The guest's side of hvsocket: connections, their packets, and their ends.
 */
#pragma once

#include "runtime.h"
#include "vmbus.h"

/* The size that Linux uses before VMBus 5.0, including the control page. */
#define SOCKET_RING_PAGES 6
#define SOCKET_DATA 1
#define SOCKET_MAX_SENT 4088
#define SOCKET_MAX_RECEIVED 16384
#define STATUS_CONNECTION_REFUSED 0xc0000236U

struct socket_header {
    uint32_t type, size;
};

struct socket {
    struct channel channel;
    unsigned length; /* of the last received data */
    struct {
        struct socket_header header;
        uint8_t data[SOCKET_MAX_RECEIVED];
    } received;
    bool open;
};

enum answer { GRANTED, REFUSED, NOTHING };

struct guid socket_port(uint32_t port);
/* Requests a connection from the host, and returns its offer in `offer`. */
enum answer socket_ask(uint32_t port, uint32_t own_port, const struct offer **offer);
/* Sends the request, and does not wait for the answer. */
bool socket_post_request(uint32_t port, uint32_t own_port);
/* Opens the channel of an offer. Each number has rings of its own. */
bool socket_open(struct socket *socket, const struct offer *offer, unsigned number);
/* Requests a connection and opens its channel. */
bool socket_connect(struct socket *socket, uint32_t port, uint32_t own_port, unsigned number);
/* Waits for the host to connect to this port, and opens the connection. */
bool socket_accept(struct socket *socket, uint32_t port, unsigned number);
/* Sends a packet; waits for room. */
bool socket_send(struct socket *socket, const void *data, unsigned length);
/* Sends these bytes as a packet of this type. */
bool socket_send_raw(struct socket *socket, uint16_t type, const void *bytes, unsigned length);
/* Closes the guest's direction. */
bool socket_end(struct socket *socket);
/* Waits for a packet. Returns false if there is none or it is malformed. Its length is 0 if the host closed its direction. */
bool socket_receive(struct socket *socket);
/* Waits for the rescind, tears the GPADL down and releases the offer. */
bool socket_finish(struct socket *socket);

extern const struct test hostile_tests[];
extern const unsigned hostile_test_count;
