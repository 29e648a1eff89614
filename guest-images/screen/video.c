/*
 * Drivers for the screen: one shows a picture as hyperv_drm does, and others violate the protocol.
 */
#include "screen.h"

#include "console.h"
#include "interfaces.h"
#include "synthvid.h"

#define WIDTH 320U
#define HEIGHT 200U
#define PITCH (WIDTH * 4 + 64)
#define FIRST 4096U

static void print_reports(const struct synthvid *video)
{
    print("reports %u\n", video->reports);
}

static struct synthvid video = {.changed = print_reports};

/* Whether a picture is shown. */
static bool is_drawn;

/* Where it is. */
static uint64_t window;

/* The size that the host preferred when that was last looked at. */
static struct synthvid_size preferred;

static bool has_video(void)
{
    return vmbus_offer(&video_interface, NULL, 0);
}

static bool open_video(void)
{
    static uint8_t rings[2 * SYNTHVID_RING_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    return synthvid_open(&video, vmbus_offer(&video_interface, NULL, 0), rings);
}

static volatile uint32_t *pixel(uint32_t x, uint32_t y)
{
    return (uint32_t *)(window + FIRST + y * PITCH + x * 4);
}

/* Shows the upper left part of the picture. */
static bool show(uint32_t width, uint32_t height)
{
    struct synthvid_situation situation = {7, 1, 1, FIRST, 32, width, height, PITCH};
    return synthvid_show(&video, &situation);
}

void hear_of_viewers(void)
{
    if (!is_drawn)
        return;
    /* One at a time: a host that looks often sends them as fast as they are printed. */
    synthvid_take(&video);
    if (preferred.width == video.preferred.width && preferred.height == video.preferred.height)
        return;
    preferred = video.preferred;
    print("wants %ux%u\n", preferred.width, preferred.height);
    if (preferred.width <= WIDTH && preferred.height <= HEIGHT)
        show(preferred.width, preferred.height);
}

bool repaint(void)
{
    for (uint32_t y = 30; y < 70; y++)
        for (uint32_t x = 50; x < 150; x++)
            *pixel(x, y) ^= 0xffffff;
    return synthvid_report(&video, 50, 30, 150, 70);
}

bool scroll(void)
{
    for (uint32_t y = 0; y < HEIGHT; y++)
        for (uint32_t x = 0; x < WIDTH; x++)
            *pixel(x, y) = y + 16 < HEIGHT ? *pixel(x, y + 16) : 0;
    return synthvid_report(&video, 0, 0, WIDTH, HEIGHT);
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
        if (!synthvid_send(&video, SYNTHVID_POINTER_SHAPE, &shape, sizeof shape))
            return false;
    }
    return synthvid_send(&video, SYNTHVID_POINTER_POSITION, position, sizeof position);
}

bool resize(void)
{
    return show(200, 100);
}

bool draw(void)
{
    static const struct synthvid_situation situation = {7, 1, 1, FIRST, 32, WIDTH, HEIGHT, PITCH};
    /* Addresses without memory, of the processors' own devices, and beyond all memory must be harmless. */
    uint64_t addresses[] = {0xd0000000, 0xfee00000, 0xfffffffffffff000, 0, 0};
    is_drawn = false;
    if (!has_video())
        return true;
    if (!open_video() || !synthvid_negotiate(&video) || !synthvid_request_capabilities(&video))
        return false;
    window = synthvid_memory(command_line_has("large") ? SYNTHVID_WINDOW_LENGTH + 1 : 1);
    if (!CHECK("there is memory for the screen", window))
        return false;
    addresses[ARRAY_LENGTH(addresses) - 1] = window;
    for (unsigned i = 0; i < ARRAY_LENGTH(addresses); i++)
        if (!synthvid_locate(&video, addresses[i]) || !synthvid_show(&video, &situation))
            return false;
    for (uint32_t y = 0; y < HEIGHT; y++)
        for (uint32_t x = 0; x < WIDTH; x++)
            *pixel(x, y) = (x & 0xff) << 16 | y << 8 | ((x ^ y) & 0xff);
    print("drawn\n");
    preferred = video.preferred;
    is_drawn = synthvid_report(&video, 0, 0, WIDTH, HEIGHT);
    return is_drawn;
}

static bool opened(void)
{
    return CHECK("the screen's channel opens", has_video() && open_video());
}

/* Opens the channel and requests the newest version. */
static bool ready(void)
{
    return opened() && CHECK("3.5 is accepted", synthvid_request_version(&video, SYNTHVID_NEWEST));
}

static void close_and_draw(void)
{
    CHECK("the screen's channel closes", synthvid_close(&video));
    CHECK("a picture can be drawn again", draw() && synthvid_close(&video));
}

static void is_quiet(const char *after)
{
    interrupts_on();
    delay_microseconds(20000);
    interrupts_off();
    CHECK_NAMED(!synthvid_take(&video), "the screen does not answer %s", after);
}

void screens_of_no_version(void)
{
    static const uint32_t versions[] = {0, 3U << 16, 2, 4, SYNTHVID_VERSION(3, 6), 0xffffffff};
    if (!opened())
        return;
    for (unsigned i = 0; i < ARRAY_LENGTH(versions); i++)
        CHECK_NAMED(!synthvid_request_version(&video, versions[i]), "version %x is refused", versions[i]);
    uint8_t bytes[27] = {0};
    for (uint32_t type = SYNTHVID_VRAM_LOCATION; type < 20; type++)
        synthvid_send(&video, type, bytes, sizeof bytes);
    is_quiet("a guest without a version");
    CHECK("3.2 is accepted after all", synthvid_request_version(&video, SYNTHVID_VERSION(3, 2)));
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
    } __attribute__((packed)) drawn = {PIPE_DATA, 10 + 640, SYNTHVID_DIRT, 10 + 640, 0, 40, {0}};
    if (!ready())
        return;
    for (unsigned i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct synthvid_situation situation = {i, cases[i].outputs, 1, cases[i].offset, cases[i].depth, cases[i].width, cases[i].height, cases[i].pitch};
        CHECK_NAMED(synthvid_show(&video, &situation), "situation %u is answered", i);
        for (unsigned at = 0; at < sizeof drawn.rectangles; at++)
            drawn.rectangles[at] = (uint8_t)(at * 37 + i * 11);
        CHECK("a rectangle outside of the picture is sent", synthvid_send_packet(&video, &drawn, sizeof drawn));
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
    } cases[] = {{SYNTHVID_VRAM_LOCATION, 16, {0}}, {SYNTHVID_SITUATION, 26, {0}}, {SYNTHVID_SIZES_REQUEST, 0, {0}},
                 {SYNTHVID_DIRT, 1, {0}},           {SYNTHVID_DIRT, 17, {0, 1}},   {SYNTHVID_DIRT, 40, {0, 255}}};
    for (unsigned i = 0; i < ARRAY_LENGTH(cases); i++) {
        uint8_t bytes[48] = {0};
        if (!ready())
            return;
        memcpy(bytes, cases[i].bytes, sizeof cases[i].bytes);
        CHECK("a message is sent", synthvid_send(&video, cases[i].type, bytes, cases[i].length));
        is_quiet("a message that is cut off");
        close_and_draw();
    }
}

/* Sends requests until the ring is full, without reading answers. */
void screens_without_end(void)
{
    if (!ready())
        return;
    for (unsigned i = 0; i < 2000; i++) {
        struct synthvid_situation situation = {i, 1, 1, 0, 32, i % 300, i % 200, 0};
        if (synthvid_send(&video, SYNTHVID_SITUATION, &situation, sizeof situation))
            continue;
        interrupts_on();
        delay_microseconds(20000);
        interrupts_off();
        while (synthvid_take(&video))
            ;
    }
    close_and_draw();
}
