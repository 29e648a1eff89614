/*
 * Control messages and offers of VMBus, and interrupts of channels.
 *
 * The interrupt handler puts messages into an inbox. While that is full, the host keeps them. Offers and rescinds are recorded
 * when they are taken out of the inbox, whatever the caller waits for.
 */
#include "vmbus.h"

#include "apic.h"
#include "check.h"
#include "hypercall.h"
#include "interrupts.h"
#include "memory.h"
#include "pages.h"
#include "smp.h"
#include "synic.h"
#include "time.h"

/* One of the vectors that the runtime uses itself. */
#define VECTOR_VMBUS 0xf1
#define MESSAGE_CHANNEL 1
#define INBOX 64
#define POST_ATTEMPTS 2000

static struct message inbox[INBOX];
/* Number of messages that were put in, and taken out. */
static unsigned put, taken;

static struct offer offers[VMBUS_CHANNELS];
/* Only the first `offers_end` can be in use: a host has few channels, with numbers from 1. */
static unsigned offers_end, offer_count;
static unsigned interrupts[CPUS_MAX][VMBUS_CHANNELS] NOT_CLEARED;
static uint32_t connection = CONNECTION_MESSAGES_5, version;

/* Moves the message in this processor's slot to the inbox. Interrupts must be disabled. */
static void take_messages(void)
{
    while (atomic_load(&put) - atomic_load(&taken) < INBOX && message_take(VMBUS_SINT, &inbox[put % INBOX]))
        atomic_add(&put, 1);
}

static void take_flags(void)
{
    unsigned cpu = this_cpu()->index;
    uint64_t *words = synics[cpu].flags[VMBUS_SINT];
    for (unsigned word = 0; word * 64 < offers_end; word++) {
        if (!atomic_load(&words[word]))
            continue;
        for (uint64_t flags = atomic_exchange(&words[word], 0); flags; flags &= flags - 1)
            atomic_add(&interrupts[cpu][word * 64 + __builtin_ctzl(flags)], 1);
    }
}

static void on_interrupt(struct interrupt_frame *frame)
{
    (void)frame;
    take_messages();
    take_flags();
    apic_end_of_interrupt();
}

void vmbus_listen(void)
{
    interrupt_set_handler(VECTOR_VMBUS, on_interrupt);
    memset(interrupts[this_cpu()->index], 0, sizeof interrupts[0]);
    synic_enable();
    sint_set(VMBUS_SINT, VECTOR_VMBUS);
}

uint64_t vmbus_post_once(uint32_t to, const void *message, unsigned length)
{
    static struct {
        uint32_t connection, reserved, type, size;
        uint8_t payload[MESSAGE_PAYLOAD_MAX];
    } input __attribute__((aligned(256)));
    input.connection = to;
    input.type = MESSAGE_CHANNEL;
    input.size = length;
    memcpy(input.payload, message, length);
    return RESULT_STATUS(hypercall(CALL_POST_MESSAGE, (uint64_t)&input, 0));
}

bool vmbus_post(const void *message, unsigned length)
{
    for (unsigned attempt = 0; attempt < POST_ATTEMPTS; attempt++) {
        uint64_t status = vmbus_post_once(connection, message, length);
        if (status != STATUS_INSUFFICIENT_BUFFERS)
            return status == STATUS_SUCCESS;
        delay_microseconds(1000);
    }
    return false;
}

bool vmbus_post_words(enum vmbus_message_type type, uint32_t first, uint32_t second)
{
    uint32_t message[] = {type, 0, first, second};
    return vmbus_post(message, sizeof message);
}

static void note_offer(const struct vmbus_message *message)
{
    uint32_t channel = message->offer.channel;
    if (!channel || channel >= VMBUS_CHANNELS || offers[channel].present) {
        CHECK_NAMED(false, "the offered channel %u is within bounds and not offered yet", channel);
        return;
    }
    offers[channel] = (struct offer){
        .present = true,
        .interface = message->offer.interface,
        .instance = message->offer.instance,
        .subchannel = message->offer.subchannel,
        .flags = message->offer.flags,
        .from_host = message->offer.user_defined[4],
        .channel = channel,
        .connection = message->offer.connection,
    };
    offer_count++;
    if (channel >= offers_end)
        offers_end = channel + 1;
}

static void forget_offers(void)
{
    memset(offers, 0, offers_end * sizeof offers[0]);
    offers_end = offer_count = 0;
}

static void note_rescind(uint32_t channel)
{
    bool known = channel < VMBUS_CHANNELS && offers[channel].present && !offers[channel].rescinded;
    if (known)
        offers[channel].rescinded = true;
    else
        CHECK_NAMED(false, "the rescinded channel %u was offered", channel);
}

/* Takes a message out of the inbox and records offers and rescinds. Returns false if there is none. */
static bool take(struct vmbus_message *message)
{
    interrupts_off();
    take_messages();
    if (taken == put)
        return false;
    memcpy(message, inbox[taken % INBOX].payload.bytes, sizeof *message);
    atomic_add(&taken, 1);
    take_messages();
    if (message->type == OFFERCHANNEL)
        note_offer(message);
    if (message->type == RESCIND_CHANNELOFFER)
        note_rescind(message->rescinded.channel);
    return true;
}

static bool is_note(const struct vmbus_message *message)
{
    return message->type == OFFERCHANNEL || message->type == RESCIND_CHANNELOFFER;
}

bool vmbus_next(struct vmbus_message *message)
{
    uint64_t deadline = deadline_after(VMBUS_PATIENCE_MILLISECONDS);
    do {
        while (take(message))
            if (!is_note(message))
                return true;
        wait_a_while();
    } while (rdtsc() < deadline);
    return false;
}

bool vmbus_try_next(struct vmbus_message *message)
{
    wait_a_while();
    while (take(message))
        if (!is_note(message))
            return true;
    return false;
}

bool vmbus_expect(enum vmbus_message_type type, struct vmbus_message *message)
{
    if (!vmbus_next(message))
        return CHECK_NAMED(false, "a message of type %u arrives in time", type);
    return message->type == type || CHECK_EQUAL_NAMED(message->type, type, "the next message is of type %u", type);
}

void vmbus_poll(void)
{
    struct vmbus_message message;
    wait_a_while();
    while (take(&message))
        if (!is_note(&message))
            CHECK_NAMED(false, "there is no unsolicited message of type %u", message.type);
}

bool vmbus_contact(uint32_t wanted)
{
    struct {
        uint32_t type, reserved, version, vp;
        uint8_t sint, vtl, padding[6];
        uint64_t monitors[2];
    } contact = {.type = INITIATE_CONTACT, .version = wanted, .vp = hyperv_vp_index(), .sint = VMBUS_SINT};
    struct vmbus_message answer;

    forget_offers();
    connection = wanted >= VMBUS_VERSION(5, 0) ? CONNECTION_MESSAGES_5 : CONNECTION_MESSAGES;
    /* A host without version 5.x has no such port. */
    if (!vmbus_post(&contact, sizeof contact) || !vmbus_expect(VERSION_RESPONSE, &answer) || !answer.version.supported)
        return false;
    if (wanted >= VMBUS_VERSION(5, 0))
        connection = answer.version.connection;
    version = wanted;
    return true;
}

uint32_t vmbus_negotiate(void)
{
    static const uint32_t versions[] = {
        VMBUS_VERSION(5, 3), VMBUS_VERSION(5, 2), VMBUS_VERSION(5, 1), VMBUS_VERSION(5, 0),
        VMBUS_VERSION(4, 1), VMBUS_VERSION(4, 0), VMBUS_VERSION(3, 0), VMBUS_VERSION(2, 4),
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(versions); i++)
        if (vmbus_contact(versions[i]))
            return versions[i];
    return 0;
}

bool vmbus_request_offers(void)
{
    struct vmbus_message message;
    return vmbus_post_words(REQUESTOFFERS, 0, 0) && vmbus_expect(ALLOFFERS_DELIVERED, &message);
}

bool vmbus_unload(void)
{
    struct vmbus_message message;
    bool done = vmbus_post_words(UNLOAD, 0, 0) && vmbus_expect(UNLOAD_RESPONSE, &message);
    forget_offers();
    return done;
}

static bool same(const struct guid *left, const struct guid *right)
{
    return !memcmp(left, right, sizeof *left);
}

const struct offer *vmbus_offer_after(const struct offer *previous)
{
    for (const struct offer *offer = previous ? previous + 1 : offers; offer < offers + offers_end; offer++)
        if (offer->present && !offer->rescinded)
            return offer;
    return NULL;
}

const struct offer *vmbus_offer(const struct guid *interface, const struct guid *instance, uint16_t subchannel)
{
    const struct offer *offer = NULL;
    while ((offer = vmbus_offer_after(offer)))
        if (offer->subchannel == subchannel && same(&offer->interface, interface) &&
            (!instance || same(&offer->instance, instance)))
            break;
    return offer;
}

const struct offer *vmbus_await_offer(const struct guid *interface, const struct guid *instance, uint16_t subchannel)
{
    const struct offer *offer;
    uint64_t deadline = deadline_after(VMBUS_PATIENCE_MILLISECONDS);
    while (!(offer = vmbus_offer(interface, instance, subchannel)) && rdtsc() < deadline)
        vmbus_poll();
    return offer;
}

unsigned vmbus_offer_count(void)
{
    return offer_count;
}

bool vmbus_await_rescind(const struct offer *offer)
{
    uint64_t deadline = deadline_after(VMBUS_PATIENCE_MILLISECONDS);
    while (!offer->rescinded && rdtsc() < deadline)
        vmbus_poll();
    return offer->rescinded;
}

void vmbus_release(const struct offer *offer)
{
    struct offer *ours = &offers[offer->channel];
    offer_count--;
    ours->present = false;
    vmbus_post_words(RELID_RELEASED, ours->channel, 0);
}

unsigned vmbus_release_rescinded(void)
{
    unsigned released = 0;
    for (const struct offer *offer = offers; offer < offers + offers_end; offer++)
        if (offer->present && offer->rescinded) {
            vmbus_release(offer);
            released++;
        }
    return released;
}

uint32_t vmbus_version(void)
{
    return version;
}

unsigned vmbus_interrupts(unsigned cpu, uint32_t channel)
{
    return atomic_load(&interrupts[cpu][channel]);
}
