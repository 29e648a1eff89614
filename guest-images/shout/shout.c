/*
 * The driver for the device of examples/vsp.rs: sends two texts, one packet each, prints the answers, and powers off.
 */
#include "hyperv.h"
#include "runtime.h"
#include "session.h"

#define RING_PAGES 2
#define ANSWER_MAX 256

/* The device's interface GUID, 73686f75-0000-0000-0000-000000000000. */
static const struct guid shout_interface = {{0x75, 0x6f, 0x68, 0x73}};

static bool say(struct channel *channel, const char *word)
{
    static uint64_t transaction;
    char answer[ANSWER_MAX];
    struct packet_header header;
    struct packet packet = {
        .type = PACKET_IN_BAND,
        .flags = PACKET_WANTS_COMPLETION,
        .transaction = ++transaction,
        .payload = word,
        .payload_length = text_length(word) + 1,
    };
    if (!channel_send(channel, &packet))
        return FAILED("the device takes no more packets");
    int length = channel_receive(channel, &header, answer, sizeof answer - 1);
    if (length < 0 || header.type != PACKET_COMPLETION || header.transaction != transaction)
        return FAILED("the device does not answer");
    answer[length] = 0;
    print("%s -> %s\n", word, answer);
    return true;
}

static bool use_device(void)
{
    static uint8_t rings[2 * RING_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    static const char *const words[] = {"hello", "is there anybody?"};
    struct channel channel;

    if (!session_begin())
        return false;
    const struct offer *offer = vmbus_await_offer(&shout_interface, NULL, 0);
    if (!offer || !channel_open(&channel, offer, rings, RING_PAGES, hyperv_vp_index()))
        return FAILED("the device is not there, or its channel does not open");
    for (unsigned i = 0; i < ARRAY_LENGTH(words); i++)
        if (!say(&channel, words[i]))
            return false;
    return (channel_close(&channel) || FAILED("the channel does not close")) && session_end();
}

int main(void)
{
    checks_be_quiet();
    if (!session_is_possible() || !use_device() || checks_failed())
        return EXIT_FAILED;
    machine_power_off();
    return EXIT_PASSED;
}
