#include "frames.h"

struct link host;
void (*at_hang_up)(void);

u32 read_u32(const u8 *bytes)
{
    u32 value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static void hang_up(void)
{
    if (at_hang_up)
        at_hang_up();
    quit(1);
}

void protocol_error(void)
{
    send_failure(BAD_FRAME, -EPROTO);
    hang_up();
    quit(1);
}

u32 room_to_queue(void) { return sizeof host.sending - host.out; }

int queue_frame(u8 type, u8 stream, const void *payload, u32 length)
{
    struct header header = { .length = length, .type = type, .stream = stream };
    if (room_to_queue() < sizeof header + length)
        return 0;
    memcpy(host.sending + host.out, &header, sizeof header);
    memcpy(host.sending + host.out + sizeof header, payload, length);
    host.out += sizeof header + length;
    return 1;
}

void send_queued(void)
{
    u32 sent = 0;
    while (sent < host.out) {
        long count = EINTR_RETRY(call(__NR_write, host.fd, host.sending + sent, host.out - sent));
        if (count == -EAGAIN)
            break;
        if (count <= 0)
            hang_up();
        sent += count;
    }
    memmove(host.sending, host.sending + sent, host.out - sent);
    host.out -= sent;
}

static void wait_for(short events)
{
    struct pollfd poll = { .fd = host.fd, .events = events };
    call(__NR_poll, &poll, 1, -1);
}

void send_now(u8 type, u8 stream, const void *payload, u32 length)
{
    while (!queue_frame(type, stream, payload, length)) {
        wait_for(POLLOUT);
        send_queued();
    }
    for (send_queued(); host.out; send_queued())
        wait_for(POLLOUT);
}

void send_failure(u32 what, long error)
{
    u32 payload[2] = { what, -error };
    send_now(FAILED, 0, payload, sizeof payload);
}

void receive(void)
{
    u32 room = sizeof host.received - host.in;
    if (!room)
        return;
    long count = EINTR_RETRY(call(__NR_read, host.fd, host.received + host.in, room));
    if (count == -EAGAIN)
        return;
    if (count <= 0)
        hang_up();
    host.in += count;
}

u8 *next_frame(struct header *header)
{
    if (host.in < sizeof *header)
        return NULL;
    memcpy(header, host.received, sizeof *header);
    if (header->length > MAX_PAYLOAD)
        protocol_error();
    if (host.in - sizeof *header < header->length)
        return NULL;
    return host.received + sizeof *header;
}

void drop_frame(const struct header *header)
{
    u32 size = sizeof *header + header->length;
    memmove(host.received, host.received + size, host.in - size);
    host.in -= size;
}

u8 *wait_frame(struct header *header)
{
    u8 *payload;
    while (!(payload = next_frame(header))) {
        wait_for(POLLIN);
        receive();
    }
    return payload;
}

char *read_text(u8 *payload, u32 length, u32 *place)
{
    char *text = (char *)payload + *place;
    for (u32 i = *place; i < length; i++)
        if (!payload[i]) {
            *place = i + 1;
            return text;
        }
    protocol_error();
}
