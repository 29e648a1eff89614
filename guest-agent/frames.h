/* The protocol between the agent and its host: docs/agent.md. */
#ifndef AGENT_FRAMES_H
#define AGENT_FRAMES_H

#include "sys.h"

#define PROTOCOL 1
/* Maximum length of a payload. It limits the arguments and the environment of a command. */
#define MAX_PAYLOAD (256 * 1024)
/* Number of bytes of a stream that its sender may send before the receiver grants more. */
#define WINDOW_SIZE (256 * 1024)
/* Maximum payload of a data frame. */
#define MAX_DATA (32 * 1024)

enum frame {
    HELLO = 1,
    RUN = 2,
    STARTED = 3,
    DATA = 4,
    END_OF_STREAM = 5,
    WINDOW = 6,
    SIGNAL = 7,
    RESIZE = 8,
    EXITED = 9,
    FAILED = 10,
    PUT = 11,
    GET = 12,
    FILE_MODE = 13,
    DONE = 14,
};

enum { STANDARD_INPUT, STANDARD_OUTPUT, STANDARD_ERROR };

/* What failed, in FAILED. */
enum { BAD_FRAME = 1, NO_COMMAND = 2, NO_DIRECTORY = 3, NO_FILE = 4 };

struct header {
    u32 length;
    u8 type, stream;
    u16 reserved;
};

/* A connection: received frames, and bytes that wait to be sent. */
struct link {
    int fd;
    u32 in, out;
    u8 received[sizeof(struct header) + MAX_PAYLOAD];
    u8 sending[256 * 1024];
};

extern struct link host;

/* Queues a frame, and returns 0 if there is no room. `send_now` instead waits until it is sent. */
int queue_frame(u8 type, u8 stream, const void *payload, u32 length);
u32 room_to_queue(void);
void send_now(u8 type, u8 stream, const void *payload, u32 length);
void send_failure(u32 what, long error);
void send_queued(void);
/* Reads available bytes without waiting. Ends the process if the host has closed the connection. */
void receive(void);
/* Returns the payload of the next complete frame, or NULL. It is valid until the next call of drop_frame. */
u8 *next_frame(struct header *header);
void drop_frame(const struct header *header);
/* Waits for a frame. */
u8 *wait_frame(struct header *header);
/* Called before the process ends because the host closed the connection or violated the protocol. */
extern void (*at_hang_up)(void);
void protocol_error(void) __attribute__((noreturn));
u32 read_u32(const u8 *bytes);
/* Returns the NUL-terminated text at `*place` in the payload, and moves `*place` past it. It is a protocol error if there is none. */
char *read_text(u8 *payload, u32 length, u32 *place);

void run(u8 *payload, u32 length) __attribute__((noreturn));
void put_file(u8 *payload, u32 length);
void get_file(u8 *payload, u32 length);
void power_off(void) __attribute__((noreturn));
void start_machine(void);
/* Mounts the directories in /shares.list. */
void mount_shares(void);
#define SIG_DEFAULT 0
#define SIG_IGNORE 1
#define LAST_SIGNAL 64
void set_signal(int signal, long handler);
void list_vmbus(void) __attribute__((noreturn));
/* `ring`: the size of the connection's rings; 0 leaves it to the kernel. */
int connect_host(u32 port, u32 ring);

#endif
