#include "ic.h"

#include "hyperv.h"
#include "interfaces.h"

const struct service services[SERVICES] = {
    [SHUTDOWN] = {"shutdown", 3, 3, 2}, [TIME] = {"time sync", 4, 4, 0}, [HEARTBEAT] = {"heartbeat", 1, 3, 0},
    [KVP] = {"KVP", 2, 4, 0},           [VSS] = {"VSS", 5, 5, 0},        [FILE_COPY] = {"file copy", 7, 1, 1},
};

bool ic_open(struct ic *ic, enum service_kind kind)
{
    static uint8_t rings[SERVICES][2 * IC_RING_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    ic->service = &services[kind];
    for (const struct offer *offer = NULL; (offer = vmbus_offer_after(offer));)
        if (text_equal(interface_name(&offer->interface), ic->service->name))
            return ic->open = channel_open(&ic->channel, offer, rings[kind], IC_RING_PAGES, hyperv_vp_index());
    return false;
}

bool ic_close(struct ic *ic)
{
    ic->open = false;
    return channel_close(&ic->channel);
}

static bool taken(struct ic *ic, const struct packet_header *header, int length)
{
    ic->transaction = header->transaction;
    ic->length = length < 0 ? 0 : length;
    return length >= (int)sizeof ic->header && header->type == PACKET_IN_BAND;
}

bool ic_take(struct ic *ic)
{
    struct packet_header header = {0};
    return taken(ic, &header, channel_take(&ic->channel, &header, ic->bytes, sizeof ic->bytes));
}

bool ic_receive(struct ic *ic)
{
    struct packet_header header = {0};
    return taken(ic, &header, channel_receive(&ic->channel, &header, ic->bytes, sizeof ic->bytes));
}

bool ic_send(struct ic *ic, const void *bytes, unsigned length)
{
    struct packet packet = {
        .type = PACKET_IN_BAND,
        .transaction = ic->transaction,
        .payload = bytes,
        .payload_length = length,
    };
    return channel_send(&ic->channel, &packet);
}

bool ic_reply(struct ic *ic, uint32_t status)
{
    ic->header.status = status;
    ic->header.flags = IC_RESPONSE;
    return ic_send(ic, ic->bytes, ic->length);
}

void ic_choose(struct ic *ic, uint16_t framework, uint16_t major, uint16_t minor)
{
    bool any = framework;
    uint16_t body[8] = {any, any, 0, 0, framework, 0, major, minor};
    ic->header.size = sizeof body;
    memcpy(ic_body(ic), body, sizeof body);
}

bool ic_negotiate(struct ic *ic)
{
    if (!ic_receive(ic) || ic->header.type != IC_NEGOTIATE)
        return false;
    ic_choose(ic, 3, ic->service->major, ic->service->minor);
    return ic_reply(ic, 0);
}
