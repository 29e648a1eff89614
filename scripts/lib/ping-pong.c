/* Exchanges single bytes over TCP: ping-pong PORT, or ping-pong ADDRESS PORT SECONDS
 *
 * The first form answers clients, one after another. The second counts the answers that arrive within
 * the time, and prints the round trips and their mean in microseconds. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void send_at_once(int connection)
{
    int yes = 1;
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static int answer(int listener, struct sockaddr_in address)
{
    int yes = 1, connection;
    char byte;

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1) < 0)
        return fail("ping-pong: cannot listen");
    while ((connection = accept(listener, NULL, NULL)) >= 0) {
        send_at_once(connection);
        while (read(connection, &byte, 1) == 1 && write(connection, &byte, 1) == 1)
            continue;
        close(connection);
    }
    return fail("ping-pong: cannot accept");
}

static int ask(int connection, struct sockaddr_in address, double limit)
{
    unsigned long trips = 0;
    double start, now;
    char byte = 0;

    if (connect(connection, (struct sockaddr *)&address, sizeof address) < 0)
        return fail("ping-pong: cannot connect");
    send_at_once(connection);
    now = start = seconds();
    while (now - start < limit) {
        if (write(connection, &byte, 1) != 1 || read(connection, &byte, 1) != 1)
            return fail("ping-pong: the connection broke");
        trips++;
        now = seconds();
    }
    printf("%lu %.1f\n", trips, (now - start) * 1e6 / trips);
    return 0;
}

int main(int count, char **arguments)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);

    if (descriptor < 0)
        return fail("ping-pong: no socket");
    if (count == 2) {
        address.sin_port = htons(atoi(arguments[1]));
        return answer(descriptor, address);
    }
    if (count != 4 || inet_pton(AF_INET, arguments[1], &address.sin_addr) != 1) {
        fputs("usage: ping-pong PORT | ping-pong ADDRESS PORT SECONDS\n", stderr);
        return 2;
    }
    address.sin_port = htons(atoi(arguments[2]));
    return ask(descriptor, address, atof(arguments[3]));
}
