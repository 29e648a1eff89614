#include "synthvid.h"

#include "acpi.h"
#include "check.h"
#include "hyperv.h"
#include "paging.h"

#define PIPE_DATA 1U
/* Length of the largest message that the functions here send, apart from synthvid_send_packet. */
#define BODY_MAX 80

bool synthvid_open(struct synthvid *video, const struct offer *offer, void *rings)
{
    video->version = 0;
    video->size_count = 0;
    video->told = video->reports = false;
    return channel_open(&video->channel, offer, rings, SYNTHVID_RING_PAGES, hyperv_vp_index());
}

bool synthvid_close(struct synthvid *video)
{
    return channel_close(&video->channel);
}

bool synthvid_send_packet(struct synthvid *video, const void *bytes, unsigned length)
{
    struct packet packet = {.type = PACKET_IN_BAND, .transaction = 77, .payload = bytes, .payload_length = length};
    return channel_send(&video->channel, &packet);
}

bool synthvid_send(struct synthvid *video, uint32_t type, const void *body, unsigned length)
{
    struct {
        uint32_t kind, pipe, type, length;
        uint8_t body[BODY_MAX];
    } message = {PIPE_DATA, 8 + length, type, 8 + length, {0}};
    if (!CHECK("a message of the guest is short enough", length <= BODY_MAX))
        return false;
    memcpy(message.body, body, length);
    return synthvid_send_packet(video, &message, 16 + length);
}

/* Checks an EDID, and notes the size of its preferred timing. */
static bool described(struct synthvid *video, const uint8_t *edid)
{
    enum { TIMING = 54 };
    uint8_t sum = 0;
    for (unsigned i = 0; i < SYNTHVID_EDID; i++)
        sum += edid[i];
    video->preferred.width = edid[TIMING + 2] | (edid[TIMING + 4] >> 4) << 8;
    video->preferred.height = edid[TIMING + 5] | (edid[TIMING + 7] >> 4) << 8;
    return CHECK("the description of the screen is an EDID with its checksum", edid[1] == 0xff && !sum);
}

/* Returns the length of the body of a message about features. From 3.4 on, it ends with an EDID. */
static unsigned features_length(const struct synthvid *video)
{
    return video->version < SYNTHVID_VERSION(3, 4) ? 4 : 4 + SYNTHVID_EDID;
}

/* Checks the headers of a message, and notes one about reports. */
static bool taken(struct synthvid *video, const struct packet_header *header, int length)
{
    const uint8_t *wanted = synthvid_body(video);
    video->length = length < 0 ? 0 : length;
    if (!CHECK("a packet of the screen is a message", header->type == PACKET_IN_BAND && length >= 16 && video->words[0] == PIPE_DATA) ||
        !CHECK("a message of the screen knows its length", video->words[1] == video->words[3] && 8 + video->words[1] <= video->length))
        return false;
    if (video->words[2] != SYNTHVID_FEATURES)
        return true;
    if (!CHECK_EQUAL("a feature change has its length", video->words[3], 8 + features_length(video)) ||
        !CHECK("a feature change has truth values", (wanted[0] | wanted[1] | wanted[2] | wanted[3]) <= 1) ||
        (features_length(video) > 4 && !described(video, wanted + 4)))
        return false;
    bool is_new = video->reports != wanted[0];
    video->told = true;
    video->reports = wanted[0];
    if (is_new && video->changed)
        video->changed(video);
    return true;
}

bool synthvid_take(struct synthvid *video)
{
    struct packet_header header = {0};
    int length = channel_take(&video->channel, &header, video->bytes, sizeof video->bytes);
    return length >= 0 && taken(video, &header, length);
}

static bool receive(struct synthvid *video)
{
    struct packet_header header = {0};
    int length = channel_receive(&video->channel, &header, video->bytes, sizeof video->bytes);
    return length >= 0 && taken(video, &header, length);
}

/* Waits for a message of this type, of any length. */
static bool await(struct synthvid *video, uint32_t type)
{
    bool is_here;
    while ((is_here = receive(video)) && video->words[2] == SYNTHVID_FEATURES && type != SYNTHVID_FEATURES)
        ;
    return CHECK_NAMED(is_here && video->words[2] == type, "the screen answers with message %u", type);
}

bool synthvid_await(struct synthvid *video, uint32_t type, unsigned length)
{
    return await(video, type) && CHECK_EQUAL_NAMED(video->words[3], 8 + length, "message %u of the screen has its length", type);
}

bool synthvid_request_version(struct synthvid *video, uint32_t version)
{
    if (!synthvid_send(video, SYNTHVID_VERSION_REQUEST, &version, sizeof version) ||
        !synthvid_await(video, SYNTHVID_VERSION_RESPONSE, 6) ||
        !CHECK_EQUAL("the answer names the version of the request", video->words[4], version) ||
        !CHECK_EQUAL("there is one screen", video->bytes[21], 1))
        return false;
    uint8_t accepted = video->bytes[20];
    CHECK_NAMED(accepted <= 2, "version %x is accepted or not", version);
    video->version = accepted ? version : 0;
    video->told = false;
    return accepted;
}

bool synthvid_request_sizes(struct synthvid *video)
{
    static const uint8_t most = SYNTHVID_SIZES_MAX;
    if (!synthvid_send(video, SYNTHVID_SIZES_REQUEST, &most, sizeof most) || !await(video, SYNTHVID_SIZES_RESPONSE) ||
        !CHECK("a list of sizes has a start", video->words[3] >= 8 + SYNTHVID_EDID + 3))
        return false;
    const uint8_t *head = synthvid_body(video) + SYNTHVID_EDID;
    unsigned count = head[0];
    if (!CHECK("there are 1 to 64 sizes", count >= 1 && count <= SYNTHVID_SIZES_MAX) ||
        !CHECK("the default size is in the list", head[1] < count) ||
        !CHECK_EQUAL("the list ends with the last size", video->words[3], 8 + SYNTHVID_EDID + 3 + count * sizeof video->sizes[0]))
        return false;
    memcpy(video->sizes, head + 3, count * sizeof video->sizes[0]);
    if (!described(video, synthvid_body(video)))
        return false;
    video->size_count = count;
    video->size_default = head[1];
    for (unsigned i = 0; i < count; i++)
        if (!CHECK_NAMED(video->sizes[i].width && video->sizes[i].height, "size %u is one", i))
            return false;
    return true;
}

/* Asks without a body, and expects numbers: the first is 0 or 1, the others are 0. */
static bool ask_for_bit(struct synthvid *video, uint32_t request, unsigned count)
{
    if (!synthvid_send(video, request, "", 0) || !synthvid_await(video, request + 1, 4 * count))
        return false;
    for (unsigned i = 0; i < count; i++)
        if (!CHECK_NAMED(video->words[4 + i] <= (i == 0), "word %u of message %u is valid", i, request + 1))
            return false;
    return true;
}

bool synthvid_request_capabilities(struct synthvid *video)
{
    return ask_for_bit(video, SYNTHVID_BIOS_REQUEST, 4) && ask_for_bit(video, SYNTHVID_CAPABILITY_REQUEST, 16);
}

bool synthvid_negotiate(struct synthvid *video)
{
    return CHECK("the newest version is accepted", synthvid_request_version(video, SYNTHVID_NEWEST)) && synthvid_request_sizes(video);
}

uint64_t synthvid_memory(uint64_t length)
{
    /* The start of a QWordMemory descriptor. The DSDT is searched for it, because nothing here interprets AML. */
    static const uint8_t start[] = {0x8a, 0x2b, 0x00, 0x00};
    enum { FIRST = 14, LENGTH = 38, END = 46 };
    if (length <= SYNTHVID_WINDOW_LENGTH)
        return SYNTHVID_WINDOW;
    const struct acpi_header *table = acpi_find("DSDT");
    for (uint32_t at = sizeof *table; table && at + END <= table->length; at++) {
        const uint8_t *descriptor = (const uint8_t *)table + at;
        uint64_t first, size;
        memcpy(&first, descriptor + FIRST, sizeof first);
        memcpy(&size, descriptor + LENGTH, sizeof size);
        if (memcmp(descriptor, start, sizeof start) || size < length)
            continue;
        map(first, first, size, PAGE_PRESENT | PAGE_WRITE);
        return first;
    }
    return 0;
}

bool synthvid_locate(struct synthvid *video, uint64_t address)
{
    struct __attribute__((packed)) {
        uint64_t context;
        uint8_t specified;
        uint64_t address;
    } location = {address, 1, address};
    uint64_t context;
    if (!synthvid_send(video, SYNTHVID_VRAM_LOCATION, &location, sizeof location) ||
        !synthvid_await(video, SYNTHVID_VRAM_ACK, sizeof context))
        return false;
    memcpy(&context, synthvid_body(video), sizeof context);
    return CHECK_EQUAL("the answer has the context of the address", context, address);
}

bool synthvid_show(struct synthvid *video, const struct synthvid_situation *situation)
{
    uint64_t context;
    if (!synthvid_send(video, SYNTHVID_SITUATION, situation, sizeof *situation) ||
        !synthvid_await(video, SYNTHVID_SITUATION_ACK, sizeof context))
        return false;
    memcpy(&context, synthvid_body(video), sizeof context);
    return CHECK_EQUAL("the answer has the context of the situation", context, situation->context) &&
           (video->told || synthvid_await(video, SYNTHVID_FEATURES, features_length(video)));
}

bool synthvid_report(struct synthvid *video, uint32_t left, uint32_t top, uint32_t right, uint32_t bottom)
{
    struct __attribute__((packed)) {
        uint8_t output, count;
        uint32_t left, top, right, bottom;
    } dirt = {0, 1, left, top, right, bottom};
    return synthvid_send(video, SYNTHVID_DIRT, &dirt, sizeof dirt);
}
