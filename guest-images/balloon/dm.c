#include "dm.h"

#include "hyperv.h"
#include "interfaces.h"

bool dm_open(struct dm *dm)
{
    static uint8_t rings[2 * DM_RING_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    for (const struct offer *offer = NULL; (offer = vmbus_offer_after(offer));)
        if (text_equal(interface_name(&offer->interface), "balloon"))
            return channel_open(&dm->channel, offer, rings, DM_RING_PAGES, hyperv_vp_index());
    return false;
}

bool dm_close(struct dm *dm)
{
    return channel_close(&dm->channel);
}

bool dm_send_raw(struct dm *dm, const void *bytes, unsigned length)
{
    struct packet packet = {.type = PACKET_IN_BAND, .payload = bytes, .payload_length = length};
    return channel_send(&dm->channel, &packet);
}

bool dm_send(struct dm *dm, enum dm_type type, const void *body, unsigned length)
{
    static struct dm_message message;
    message.type = type;
    message.size = 8 + length;
    message.transaction++;
    memcpy(message.words, body, length);
    return dm_send_raw(dm, &message, message.size);
}

bool dm_take(struct dm *dm)
{
    struct packet_header header = {0};
    dm->length = channel_take(&dm->channel, &header, &dm->received, sizeof dm->received);
    return dm->length >= 8 && header.type == PACKET_IN_BAND;
}

bool dm_expect(struct dm *dm, enum dm_type type)
{
    struct packet_header header = {0};
    dm->length = channel_receive(&dm->channel, &header, &dm->received, sizeof dm->received);
    return CHECK_NAMED(dm->length >= 8 && header.type == PACKET_IN_BAND && dm->received.size == dm->length,
                       "a message with its own length arrives") &&
           CHECK_EQUAL("the message has the expected type", dm->received.type, type);
}

bool dm_negotiate(struct dm *dm, uint32_t version, uint64_t capabilities)
{
    uint32_t request[2] = {version, 0};
    uint64_t report[3] = {capabilities, 0, UINT64_MAX};
    if (!CHECK("a version is proposed", dm_send(dm, DM_VERSION_REQUEST, request, sizeof request)) ||
        !dm_expect(dm, DM_VERSION_RESPONSE) || !CHECK_EQUAL("the version is accepted", dm->received.quads[0], 1))
        return false;
    if (!CHECK("the capabilities are sent", dm_send(dm, CAPABILITIES_REPORT, report, sizeof report)) ||
        !dm_expect(dm, CAPABILITIES_RESPONSE) || !CHECK_EQUAL("the capabilities are accepted", dm->received.quads[0], 1))
        return false;
    /* From version 1.0 on, the host sends the maximum. */
    return version < 0x10000 || dm_expect(dm, INFORMATION);
}

bool dm_report(struct dm *dm, uint64_t committed)
{
    uint64_t status[5] = {1000, committed};
    return CHECK("a status is sent", dm_send(dm, STATUS_REPORT, status, sizeof status));
}

bool dm_give(struct dm *dm, const uint64_t *ranges, unsigned count, bool more)
{
    static uint64_t body[(DM_MESSAGE_MAX - 8) / 8];
    body[0] = (uint64_t)(count << 1 | more) << 32;
    memcpy(body + 1, ranges, count * sizeof *ranges);
    return dm_send(dm, BALLOON_RESPONSE, body, (count + 1) * sizeof *body);
}
