#include "screen.h"

#include "hyperv.h"
#include "interfaces.h"

bool input_open(struct input *input, enum input_kind kind)
{
    static uint8_t rings[INPUTS][2 * RING_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    static const char *const names[INPUTS] = {"keyboard", "mouse"};
    input->kind = kind;
    input->name = names[kind];
    for (const struct offer *offer = NULL; (offer = vmbus_offer_after(offer));)
        if (text_equal(interface_name(&offer->interface), input->name))
            return channel_open(&input->channel, offer, rings[kind], RING_PAGES, hyperv_vp_index());
    return false;
}

bool input_close(struct input *input)
{
    return channel_close(&input->channel);
}

static bool put(struct input *input, const void *bytes, unsigned length, unsigned flags)
{
    struct packet packet = {
        .type = PACKET_IN_BAND,
        .flags = flags,
        .transaction = 77,
        .payload = bytes,
        .payload_length = length,
    };
    return channel_send(&input->channel, &packet);
}

bool input_send(struct input *input, const void *bytes, unsigned length)
{
    return put(input, bytes, length, 0);
}

bool input_ask(struct input *input, const void *bytes, unsigned length)
{
    struct packet_header header = {0};
    return put(input, bytes, length, PACKET_WANTS_COMPLETION) &&
           channel_receive(&input->channel, &header, input->bytes, sizeof input->bytes) >= 0 &&
           CHECK_NAMED(header.type == PACKET_COMPLETION && header.transaction == 77, "%s: the packet is completed first",
                       input->name);
}

static bool taken(struct input *input, const struct packet_header *header, int length)
{
    input->length = length < 0 ? 0 : length;
    return length >= 8 && header->type == PACKET_IN_BAND;
}

bool input_take(struct input *input)
{
    struct packet_header header = {0};
    return taken(input, &header, channel_take(&input->channel, &header, input->bytes, sizeof input->bytes));
}

bool input_receive(struct input *input)
{
    struct packet_header header = {0};
    return taken(input, &header, channel_receive(&input->channel, &header, input->bytes, sizeof input->bytes));
}

bool input_negotiate(struct input *input, uint32_t version, bool *accepted)
{
    uint32_t keyboard[] = {KEYBOARD_REQUEST, version}, mouse[] = {PIPE_DATA, 12, MOUSE_REQUEST, 4, version};
    bool is_mouse = input->kind == MOUSE;
    if (!(is_mouse ? input_ask(input, mouse, sizeof mouse) : input_ask(input, keyboard, sizeof keyboard)) ||
        !CHECK_NAMED(input_receive(input), "%s: version %x is answered", input->name, version))
        return false;
    if (!is_mouse) {
        *accepted = input->words[1] & 1;
        return CHECK_NAMED(input->words[0] == KEYBOARD_RESPONSE && input->length == 8, "the keyboard's answer has the right type and length");
    }
    *accepted = input->bytes[20];
    return CHECK_NAMED(input->words[0] == PIPE_DATA && input->words[1] == 13 && input->words[2] == MOUSE_RESPONSE &&
                           input->words[3] == 5 && input->words[4] == version,
                       "the mouse's answer is one");
}

/* The checks of Linux before it registers the device. */
static bool described(struct input *input)
{
    uint32_t acknowledgement[] = {PIPE_DATA, 9, MOUSE_INFO_ACK, 1, 0};
    const uint8_t *descriptor = input->bytes + 16 + 32;
    if (!CHECK("the mouse is described", input_receive(input) && input->words[2] == MOUSE_INFO))
        return false;
    unsigned report = descriptor[7] | descriptor[8] << 8;
    return CHECK_EQUAL("the attributes know their size", input->words[4], 32) &&
           CHECK_EQUAL("the descriptor is one of HID", descriptor[1], 0x21) &&
           CHECK_EQUAL("it has the size of one", descriptor[0], 9) &&
           CHECK_EQUAL("the pipe's message ends with the report descriptor", input->words[1], 8U + 32 + 9 + report) &&
           CHECK_EQUAL("the message ends with the report descriptor", input->words[3], 32U + 9 + report) &&
           CHECK("the packet contains the whole message", 8 + input->words[1] <= input->length) && input_ask(input, acknowledgement, 17);
}

bool input_begin(struct input *input)
{
    bool accepted = false;
    return input_negotiate(input, input->kind == MOUSE ? MOUSE_VERSION : KEYBOARD_VERSION, &accepted) &&
           CHECK_NAMED(accepted, "%s: the version is accepted", input->name) && (input->kind == KEYBOARD || described(input));
}
