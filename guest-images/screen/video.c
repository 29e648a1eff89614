/*
 * A driver for the screen: what hyperv_drm does to show a picture.
 */
#include "screen.h"

#include "console.h"

#define VERSION_3_5 (5U << 16 | 3)
#define WINDOW 0xf8000000UL
#define WIDTH 320U
#define HEIGHT 200U
#define PITCH (WIDTH * 4 + 64)
#define FIRST 4096U

enum {
    VIDEO_REQUEST = 1,
    VIDEO_RESPONSE,
    VRAM_LOCATION,
    VRAM_ACK,
    SITUATION,
    SITUATION_ACK,
    FEATURES = 9,
    DIRT,
    SIZES = 13,
    SIZES_ARE,
};

static struct input video;

/* Sends a message of `length` bytes behind its headers. */
static bool say(uint32_t type, const void *body, unsigned length)
{
    struct {
        uint32_t kind, pipe, type, length;
        uint8_t body[48];
    } message = {PIPE_DATA, 8 + length, type, 8 + length, {0}};
    memcpy(message.body, body, length);
    return input_send(&video, &message, 16 + length);
}

static bool answered(uint32_t type)
{
    return CHECK_NAMED(input_receive(&video) && video.words[2] == type && video.words[1] == video.words[3] &&
                           8 + video.words[1] <= video.length,
                       "the screen answers with message %u", type);
}

static bool show(uint64_t address)
{
    struct __attribute__((packed)) {
        uint64_t context;
        uint8_t specified;
        uint64_t address;
    } location = {address, 1, address};
    struct __attribute__((packed)) {
        uint64_t context;
        uint8_t outputs, active;
        uint32_t offset;
        uint8_t depth;
        uint32_t width, height, pitch;
    } situation = {7, 1, 1, FIRST, 32, WIDTH, HEIGHT, PITCH};
    uint64_t context;
    if (!say(VRAM_LOCATION, &location, sizeof location) || !answered(VRAM_ACK))
        return false;
    memcpy(&context, video.bytes + 16, sizeof context);
    return CHECK_EQUAL("the context comes back", context, address) && say(SITUATION, &situation, sizeof situation) &&
           answered(SITUATION_ACK) && answered(FEATURES);
}

bool draw(void)
{
    static const uint8_t most = 64, dirt[18] = {0, 1};
    uint32_t version = VERSION_3_5;
    if (!input_open(&video, VIDEO))
        return true;
    if (!say(VIDEO_REQUEST, &version, 4) || !answered(VIDEO_RESPONSE) || !CHECK("3.5 is accepted", video.bytes[20]) ||
        !say(SIZES, &most, 1) || !answered(SIZES_ARE) || !CHECK("there are sizes", video.bytes[16 + 128]))
        return false;
    /* Addresses where there is nothing, where the processors' own devices are, and beyond all: nobody is harmed. */
    static const uint64_t addresses[] = {0xd0000000, 0xfee00000, 0xfffffffffffff000, 0, WINDOW};
    for (unsigned i = 0; i < ARRAY_LENGTH(addresses); i++)
        if (!show(addresses[i]))
            return false;
    for (uint32_t y = 0; y < HEIGHT; y++)
        for (uint32_t x = 0; x < WIDTH; x++) {
            volatile uint32_t *pixel = (uint32_t *)(WINDOW + FIRST + y * PITCH + x * 4);
            *pixel = (x & 0xff) << 16 | y << 8 | ((x ^ y) & 0xff);
        }
    print("drawn\n");
    return say(DIRT, dirt, sizeof dirt);
}
