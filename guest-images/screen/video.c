/*
 * Drivers for the screen: one shows a picture as hyperv_drm does, and others violate the protocol.
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
    POINTER_POSITION,
    POINTER_SHAPE,
    FEATURES,
    DIRT,
    SIZES = 13,
    SIZES_ARE,
};

struct __attribute__((packed)) situation {
    uint64_t context;
    uint8_t outputs, active;
    uint32_t offset;
    uint8_t depth;
    uint32_t width, height, pitch;
};

static struct input video;

/* Sends a message with `length` bytes after its headers. */
static bool say(uint32_t type, const void *body, unsigned length)
{
    struct {
        uint32_t kind, pipe, type, length;
        uint8_t body[80];
    } message = {PIPE_DATA, 8 + length, type, 8 + length, {0}};
    memcpy(message.body, body, length);
    return input_send(&video, &message, 16 + length);
}

/* Whether the host wants reports of what is drawn: whether somebody looks. */
static uint8_t wants_reports;

static void hear_of_features(void)
{
    if (video.bytes[16] == wants_reports)
        return;
    wants_reports = video.bytes[16];
    print("reports %u\n", wants_reports);
}

/* The host tells of viewers that come and leave at any time: those messages may precede the answer. */
static bool answered(uint32_t type)
{
    bool is_here;
    while ((is_here = input_receive(&video)) && video.words[2] == FEATURES) {
        hear_of_features();
        if (type == FEATURES)
            break;
    }
    return CHECK_NAMED(is_here && video.words[2] == type && video.words[1] == video.words[3] && 8 + video.words[1] <= video.length,
                       "the screen answers with message %u", type);
}

static bool show(uint64_t address)
{
    struct __attribute__((packed)) {
        uint64_t context;
        uint8_t specified;
        uint64_t address;
    } location = {address, 1, address};
    struct situation situation = {7, 1, 1, FIRST, 32, WIDTH, HEIGHT, PITCH};
    uint64_t context;
    if (!say(VRAM_LOCATION, &location, sizeof location) || !answered(VRAM_ACK))
        return false;
    memcpy(&context, video.bytes + 16, sizeof context);
    return CHECK_EQUAL("the answer has the context of the request", context, address) && say(SITUATION, &situation, sizeof situation) &&
           answered(SITUATION_ACK) && answered(FEATURES);
}

static volatile uint32_t *pixel(uint32_t x, uint32_t y)
{
    return (uint32_t *)(WINDOW + FIRST + y * PITCH + x * 4);
}

static bool report_drawn(uint32_t left, uint32_t top, uint32_t right, uint32_t bottom)
{
    struct __attribute__((packed)) {
        uint8_t output, count;
        uint32_t left, top, right, bottom;
    } dirt = {0, 1, left, top, right, bottom};
    return say(DIRT, &dirt, sizeof dirt);
}

/* Whether a picture is shown. */
static bool is_drawn;

void hear_of_viewers(void)
{
    while (is_drawn && input_take(&video))
        if (video.words[2] == FEATURES)
            hear_of_features();
}

bool repaint(void)
{
    for (uint32_t y = 30; y < 70; y++)
        for (uint32_t x = 50; x < 150; x++)
            *pixel(x, y) ^= 0xffffff;
    return report_drawn(50, 30, 150, 70);
}

bool scroll(void)
{
    for (uint32_t y = 0; y < HEIGHT; y++)
        for (uint32_t x = 0; x < WIDTH; x++)
            *pixel(x, y) = y + 16 < HEIGHT ? *pixel(x, y + 16) : 0;
    return report_drawn(0, 0, WIDTH, HEIGHT);
}

bool show_pointer(void)
{
    struct __attribute__((packed)) {
        uint8_t part, argb;
        uint32_t width, height, hot_x, hot_y;
        uint32_t pixels[12];
    } shape = {0, 1, 12, 2, 3, 1, {0}};
    static const uint8_t position[10] = {1};
    for (unsigned part = 0; part < 2; part++) {
        shape.part = part ? 0xff : 0;
        for (uint32_t x = 0; x < 12; x++)
            shape.pixels[x] = (x == part ? 0U : 0xff000000U) | 0x102030;
        if (!say(POINTER_SHAPE, &shape, sizeof shape))
            return false;
    }
    return say(POINTER_POSITION, position, sizeof position);
}

bool resize(void)
{
    struct situation situation = {7, 1, 1, FIRST, 32, 200, 100, PITCH};
    return say(SITUATION, &situation, sizeof situation) && answered(SITUATION_ACK) && answered(FEATURES);
}

bool draw(void)
{
    static const uint8_t most = 64;
    uint32_t version = VERSION_3_5;
    is_drawn = false;
    wants_reports = 0;
    if (!input_open(&video, VIDEO))
        return true;
    if (!say(VIDEO_REQUEST, &version, 4) || !answered(VIDEO_RESPONSE) || !CHECK("3.5 is accepted", video.bytes[20]) ||
        !say(SIZES, &most, 1) || !answered(SIZES_ARE) || !CHECK("there are sizes", video.bytes[16 + 128]))
        return false;
    /* Addresses without memory, of the processors' own devices, and beyond all memory must be harmless. */
    static const uint64_t addresses[] = {0xd0000000, 0xfee00000, 0xfffffffffffff000, 0, WINDOW};
    for (unsigned i = 0; i < ARRAY_LENGTH(addresses); i++)
        if (!show(addresses[i]))
            return false;
    for (uint32_t y = 0; y < HEIGHT; y++)
        for (uint32_t x = 0; x < WIDTH; x++)
            *pixel(x, y) = (x & 0xff) << 16 | y << 8 | ((x ^ y) & 0xff);
    print("drawn\n");
    is_drawn = report_drawn(0, 0, WIDTH, HEIGHT);
    return is_drawn;
}

static bool opened(void)
{
    return CHECK("the screen's channel opens", input_open(&video, VIDEO));
}

static void close_and_draw(void)
{
    CHECK("the screen's channel closes", input_close(&video));
    CHECK("a picture can be drawn again", draw() && input_close(&video));
}

static bool accepted(uint32_t version)
{
    return say(VIDEO_REQUEST, &version, 4) && answered(VIDEO_RESPONSE) && video.bytes[20];
}

static void is_quiet(const char *after)
{
    interrupts_on();
    delay_microseconds(20000);
    interrupts_off();
    CHECK_NAMED(!input_take(&video), "the screen does not answer %s", after);
}

void screens_of_no_version(void)
{
    static const uint32_t versions[] = {0, 3U << 16, 2, 4, 6U << 16 | 3, 0xffffffff};
    if (!opened())
        return;
    for (unsigned i = 0; i < ARRAY_LENGTH(versions); i++)
        CHECK_NAMED(!accepted(versions[i]), "version %x is refused", versions[i]);
    uint8_t bytes[27] = {0};
    for (uint32_t type = VRAM_LOCATION; type < 20; type++)
        say(type, bytes, sizeof bytes);
    is_quiet("a guest without a version");
    CHECK("3.2 is accepted after all", accepted(2U << 16 | 3));
    close_and_draw();
}

/* Sizes, depths and pitches that cannot be shown, and rectangles outside of the picture. */
void screens_that_cannot_be(void)
{
    static const struct {
        uint8_t outputs, depth;
        uint32_t offset, width, height, pitch;
    } cases[] = {
        {1, 32, 0, 0, 0, 0},          {1, 32, 0, 0xffffffff, 0xffffffff, 0xffffffff}, {1, 16, 0, 640, 480, 1280},
        {1, 0, 0, 640, 480, 2560},    {1, 32, 0, 640, 480, 4},                       {1, 32, 0xffffffff, 640, 480, 2560},
        {0, 32, 0, 640, 480, 2560},   {255, 32, 0, 64, 48, 256},                     {1, 32, 0, 0x40000000, 1, 0},
        {1, 32, 0, 7680, 4320, 30720},
    };
    struct {
        uint32_t kind, pipe, type, length;
        uint8_t output, count;
        uint8_t rectangles[16 * 40];
    } __attribute__((packed)) drawn = {PIPE_DATA, 10 + 640, DIRT, 10 + 640, 0, 40, {0}};
    if (!opened() || !CHECK("3.5 is accepted", accepted(VERSION_3_5)))
        return;
    for (unsigned i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct situation situation = {i, cases[i].outputs, 1, cases[i].offset, cases[i].depth, cases[i].width, cases[i].height, cases[i].pitch};
        CHECK_NAMED(say(SITUATION, &situation, sizeof situation) && answered(SITUATION_ACK) && answered(FEATURES), "situation %u is answered", i);
        for (unsigned at = 0; at < sizeof drawn.rectangles; at++)
            drawn.rectangles[at] = (uint8_t)(at * 37 + i * 11);
        CHECK("a rectangle outside of the picture is sent", input_send(&video, &drawn, sizeof drawn));
    }
    close_and_draw();
}

/* Truncated packets, and packets that claim more bytes than they have, end the service of the channel. */
void screens_that_are_cut_off(void)
{
    static const struct {
        uint32_t type;
        unsigned length;
        uint8_t bytes[4];
    } cases[] = {{VRAM_LOCATION, 16, {0}}, {SITUATION, 26, {0}}, {SIZES, 0, {0}}, {DIRT, 1, {0}}, {DIRT, 17, {0, 1}}, {DIRT, 40, {0, 255}}};
    for (unsigned i = 0; i < ARRAY_LENGTH(cases); i++) {
        uint8_t bytes[48] = {0};
        if (!opened() || !CHECK("3.5 is accepted", accepted(VERSION_3_5)))
            return;
        memcpy(bytes, cases[i].bytes, sizeof cases[i].bytes);
        CHECK("a message is sent", say(cases[i].type, bytes, cases[i].length));
        is_quiet("a message that is cut off");
        close_and_draw();
    }
}

/* Sends requests until the ring is full, without reading answers. */
void screens_without_end(void)
{
    if (!opened() || !CHECK("3.5 is accepted", accepted(VERSION_3_5)))
        return;
    for (unsigned i = 0; i < 2000; i++) {
        struct situation situation = {i, 1, 1, 0, 32, i % 300, i % 200, 0};
        if (say(SITUATION, &situation, sizeof situation))
            continue;
        interrupts_on();
        delay_microseconds(20000);
        interrupts_off();
        while (input_take(&video))
            ;
    }
    close_and_draw();
}
