/*
 * Offers and channels: target VPs of interrupts, subchannels, rescinds.
 */
#include "tests.h"

void offers(void)
{
    unsigned devices = command_line_number("devices", 1), listed = 0;
    device();
    for (unsigned number = 1; number <= devices; number++) {
        struct guid instance = instance_of(number);
        const struct offer *offer = vmbus_offer(&echo_interface, &instance, 0);
        listed += offer && offer->connection == (0x2000 | offer->channel);
    }
    CHECK_EQUAL("every device is offered, with a connection to signal", listed, devices);
    CHECK_EQUAL("nothing else is offered", vmbus_offer_count(), devices);
}

static void record_vp_index(void *indexes)
{
    ((uint32_t *)indexes)[this_cpu()->index] = hyperv_vp_index();
}

void retarget(void)
{
    static uint32_t vp_index[CPUS_MAX];
    struct channel channel;
    if (command_line_number("max", VMBUS_NEWEST) < VMBUS_VERSION(4, 1) || !open_device(&channel))
        return;
    on_each_vp(record_vp_index, vp_index);
    for (unsigned round = 0; round < 2; round++)
        for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
            CHECK_NAMED(channel_retarget(&channel, vp_index[cpu]), "the channel's interrupts go to VP %u", vp_index[cpu]);
            unsigned before = channel_interrupts(&channel, cpu);
            CHECK_NAMED(echo(&channel), "VP %u: a packet is echoed", vp_index[cpu]);
            interrupts_on();
            CHECK_NAMED(WAIT_UNTIL(channel_interrupts(&channel, cpu) > before, 10000), "VP %u was interrupted", vp_index[cpu]);
            interrupts_off();
        }
    /* Older hosts do not report a refusal. */
    if (command_line_number("max", VMBUS_NEWEST) >= VMBUS_VERSION(5, 3))
        CHECK("interrupts cannot be directed to a VP that does not exist", !channel_retarget(&channel, cpu_count));
    close_device(&channel);
}

void subchannels(void)
{
    static struct channel subs[CPUS_MAX];
    struct guid instance = instance_of(1);
    struct channel channel;
    if (!open_device(&channel))
        return;
    CHECK("subchannels are requested", ask(&channel, COMMAND_SUBCHANNELS, 1000, 0, sizeof(struct request)));
    unsigned open = 0, working = 0, rescinded = 0;
    for (unsigned i = 0; i < cpu_count; i++) {
        const struct offer *offer = vmbus_await_offer(&echo_interface, &instance, i + 1);
        open += offer && channel_open(&subs[i], offer, ring_memory(1 + i), RING_PAGES, i);
    }
    CHECK_EQUAL("there is a subchannel for each VP", open, cpu_count);
    for (unsigned i = 0; i < open; i++)
        working += echo(&subs[i]);
    CHECK_EQUAL("all subchannels work, each with another VP", working, open);
    CHECK("the primary channel works as well", echo(&channel));
    close_device(&channel);
    for (unsigned i = 0; i < open; i++) {
        rescinded += vmbus_await_rescind(subs[i].offer) && channel_close(&subs[i]);
        vmbus_release(subs[i].offer);
    }
    CHECK_EQUAL("subchannels are rescinded when the primary channel closes", rescinded, open);
}

/* The host removes the device while its channel is open, and offers it again. */
void rescind(void)
{
    struct guid instance = instance_of(1);
    struct channel channel;
    for (unsigned round = 0; round < 3; round++) {
        if (!open_device(&channel))
            return;
        struct request request = {COMMAND_CALL, round, 0, 0};
        struct packet packet = {.type = PACKET_IN_BAND, .payload = &request, .payload_length = sizeof request};
        CHECK("the host is requested to remove the device", channel_send(&channel, &packet));
        CHECK("the offer is rescinded", vmbus_await_rescind(channel.offer));
        CHECK("a rescinded channel does not open", !channel_open(&(struct channel){0}, channel.offer, ring_memory(1), RING_PAGES, 0));
        CHECK("the host releases the rings of a rescinded channel", channel_close(&channel));
        vmbus_release(channel.offer);
        CHECK("the device is offered again", vmbus_await_offer(&echo_interface, &instance, 0));
    }
}

/* The device refuses unknown packets, and stops serving the channel. */
void broken_channel(void)
{
    static const uint32_t commands[] = {COMMAND_FAIL, 1000, COMMAND_INVERT};
    struct channel channel;
    struct packet_header header;
    for (unsigned i = 0; i < ARRAY_LENGTH(commands); i++) {
        if (!open_device(&channel))
            return;
        struct request request = {commands[i], 0, 0, 0};
        struct packet packet = {
            .type = PACKET_IN_BAND,
            .flags = PACKET_WANTS_COMPLETION,
            .payload = &request,
            .payload_length = sizeof request,
        };
        CHECK_NAMED(channel_send(&channel, &packet), "command %u is sent", commands[i]);
        interrupts_on();
        delay_microseconds(20000);
        interrupts_off();
        CHECK_NAMED(channel_take(&channel, &header, buffer, sizeof buffer) < 0, "command %u gets no answer", commands[i]);
        close_device(&channel);
    }
    /* Invalid indexes, and packets with inconsistent lengths. */
    static const uint32_t indexes[] = {4, RING_BYTES, 0xfffffff8, 8, 16};
    for (unsigned i = 0; i < ARRAY_LENGTH(indexes); i++) {
        if (!open_device(&channel))
            return;
        memset(channel.out.data, 0xff, RING_BYTES);
        atomic_store(&channel.out.control->write, indexes[i]);
        hypercall(CALL_SIGNAL_EVENT | CALL_FAST, channel.offer->connection, 0);
        delay_microseconds(5000);
        CHECK_NAMED(channel_close(&channel), "a channel whose write index is 0x%x closes", indexes[i]);
    }
    if (open_device(&channel)) {
        CHECK("the channel works again", echo(&channel));
        close_device(&channel);
    }
}
