/*
 * The guest's side of keyboard and mouse: channels and messages.
 */
#pragma once

#include "runtime.h"
#include "vmbus.h"

#define RING_PAGES 4
#define KEYBOARD_VERSION 0x10000U
#define MOUSE_VERSION 0x20000U
#define PIPE_DATA 1U

enum input_kind { KEYBOARD, MOUSE, INPUTS };
enum { KEYBOARD_REQUEST = 1, KEYBOARD_RESPONSE, KEYBOARD_EVENT, KEYBOARD_LEDS };
enum { MOUSE_REQUEST, MOUSE_RESPONSE, MOUSE_INFO, MOUSE_INFO_ACK, MOUSE_REPORT };

struct input {
    enum input_kind kind;
    const char *name; /* interface_name's */
    struct channel channel;
    unsigned length;
    union {
        uint8_t bytes[1024];
        uint32_t words[256];
    };
};

bool input_open(struct input *input, enum input_kind kind);
bool input_close(struct input *input);
/* Sends `length` bytes as a packet that requires a completion, as Linux's drivers do, and receives the completion. */
bool input_ask(struct input *input, const void *bytes, unsigned length);
/* Sends a packet without a completion. */
bool input_send(struct input *input, const void *bytes, unsigned length);
/* Receives a message of the host. Returns false if there is none now. */
bool input_take(struct input *input);
/* Waits for a message. */
bool input_receive(struct input *input);
/* Requests this version. Returns true if the host accepts it. */
bool input_negotiate(struct input *input, uint32_t version, bool *accepted);
/* Requests the version that exists, and checks all answers of the host. */
bool input_begin(struct input *input);

/* Shows a picture of 320x200 pixels, if there is a screen. */
bool draw(void);
/* Prints whether the host requests reports, for each of its messages about that. Prints a size that the host prefers from now on, and
 * shows the picture with that size if it is no larger. */
void hear_of_viewers(void);
/* Inverts the pixels from 50, 30 to 150, 70, and reports it. */
bool repaint(void);
/* Makes the picture 200x100 pixels large. */
bool resize(void);
/* Moves the lines up by 16, and clears the last ones. */
bool scroll(void);
/* Gives the pointer a shape of 12x2 pixels in two parts, and shows it. */
bool show_pointer(void);
void screens_of_no_version(void);
void screens_that_cannot_be(void);
void screens_that_are_cut_off(void);
void screens_without_end(void);

extern const struct test hostile_tests[];
extern const unsigned hostile_test_count;
