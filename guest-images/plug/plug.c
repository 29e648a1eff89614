/*
 * Prints a line for each disk and network adapter that is added or removed while it runs. Powers off after a line is typed.
 * The guest of examples/hot_plug.rs.
 */
#include "interfaces.h"
#include "runtime.h"
#include "scsi.h"
#include "session.h"

/* Each has up to SCSI_LUNS_MAX disks. */
#define CONTROLLERS_MAX 4
/* Time between two scans for disks. */
#define INTERVAL_MILLISECONDS 50

struct controller {
    const struct offer *offer;
    struct storvsc storvsc;
    bool has[SCSI_LUNS_MAX];
};

static struct controller controllers[CONTROLLERS_MAX];
static unsigned controller_count;
/* Indexed by channel number. */
static bool is_known[VMBUS_CHANNELS];

static bool is_of(const struct offer *offer, const struct guid *interface)
{
    return !memcmp(&offer->interface, interface, sizeof *interface);
}

static bool open_controller(const struct offer *offer)
{
    static uint8_t rings[CONTROLLERS_MAX][2 * STORVSC_RING_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    if (controller_count == CONTROLLERS_MAX)
        return FAILED("there are more than %u controllers", CONTROLLERS_MAX);
    struct controller *controller = &controllers[controller_count];
    controller->offer = offer;
    if (!storvsc_open(&controller->storvsc, offer, rings[controller_count]) || !storvsc_negotiate(&controller->storvsc))
        return FAILED("the controller of channel %u cannot be used", offer->channel);
    controller_count++;
    return true;
}

static bool tell_of_disk(struct controller *controller, uint8_t lun)
{
    struct scsi_unit unit = {.controller = &controller->storvsc, .lun = lun};
    /* It may have been removed again. */
    if (!scsi_inquire(&unit) || !scsi_read_capacity(&unit))
        return false;
    print("disk %u came: %lu blocks of %u bytes\n", lun, unit.blocks, unit.block_size);
    return true;
}

static bool look_for_disks(struct controller *controller)
{
    uint8_t luns[SCSI_LUNS_MAX];
    bool is_there[SCSI_LUNS_MAX] = {false};
    int count = scsi_report_luns(&controller->storvsc, luns);
    if (count < 0)
        return FAILED("the controller does not say which disks it has");
    for (int i = 0; i < count; i++)
        is_there[luns[i]] = true;
    for (unsigned lun = 0; lun < SCSI_LUNS_MAX; lun++) {
        if (is_there[lun] && !controller->has[lun])
            controller->has[lun] = tell_of_disk(controller, lun);
        if (!is_there[lun] && controller->has[lun]) {
            print("disk %u went\n", lun);
            controller->has[lun] = false;
        }
    }
    return true;
}

/* Opens new offers, and releases rescinded ones. */
static bool look_for_devices(void)
{
    static const struct offer *adapters[VMBUS_CHANNELS];
    for (const struct offer *offer = NULL; (offer = vmbus_offer_after(offer));) {
        if (is_known[offer->channel])
            continue;
        is_known[offer->channel] = true;
        if (is_of(offer, &network_interface)) {
            print("adapter on channel %u came\n", offer->channel);
            adapters[offer->channel] = offer;
        }
        if (is_of(offer, &scsi_interface) && !offer->subchannel && !open_controller(offer))
            return false;
    }
    for (unsigned channel = 0; channel < VMBUS_CHANNELS; channel++)
        if (adapters[channel] && adapters[channel]->rescinded) {
            print("adapter on channel %u went\n", channel);
            vmbus_release(adapters[channel]);
            adapters[channel] = NULL;
            is_known[channel] = false;
        }
    return true;
}

static bool watch(void)
{
    if (!session_begin())
        return false;
    print("watching; a line ends it\n");
    while (console_read() != '\n') {
        if (!look_for_devices())
            return false;
        for (unsigned i = 0; i < controller_count; i++)
            if (!look_for_disks(&controllers[i]))
                return false;
        uint64_t next = deadline_after(INTERVAL_MILLISECONDS);
        while (rdtsc() < next)
            vmbus_poll();
    }
    for (unsigned i = 0; i < controller_count; i++)
        if (!storvsc_close(&controllers[i].storvsc))
            return FAILED("the controller of channel %u cannot be closed", controllers[i].offer->channel);
    return session_end();
}

int main(void)
{
    checks_be_quiet();
    if (!session_is_possible() || !watch() || checks_failed())
        return EXIT_FAILED;
    machine_power_off();
    return EXIT_PASSED;
}
