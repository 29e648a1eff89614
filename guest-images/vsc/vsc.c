/*
 * A guest that uses what it is offered, as a guest of Hyper-V does: the image that `viridian run` starts by default.
 *
 * It prints a greeting, connects to VMBus, lists the offers, uses each device that it has a driver for, and powers off. Each
 * step prints a line. The first step that fails ends the image with EXIT_FAILED. A machine without VMBus is not a failure.
 */
#include "vsc.h"

#include "greeting.h"
#include "interfaces.h"

static void list_offers(void)
{
    const struct offer *offer = NULL;
    print("  offers         %u\n", vmbus_offer_count());
    while ((offer = vmbus_offer_after(offer))) {
        const uint8_t *id = offer->instance.bytes;
        print("    %-13schannel %u, %02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\n",
              interface_name(&offer->interface), offer->channel, id[3], id[2], id[1], id[0], id[5], id[4], id[7], id[6], id[8],
              id[9], id[10], id[11], id[12], id[13], id[14], id[15]);
    }
}

static bool use_devices(void)
{
    static const struct {
        const struct guid *interface;
        bool (*use)(const struct offer *offer);
    } drivers[] = {
        {&scsi_interface, use_storage},
        {&network_interface, use_network},
        {&video_interface, use_video},
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(drivers); i++)
        for (const struct offer *offer = NULL; (offer = vmbus_offer_after(offer));) {
            bool is_for_it = !memcmp(&offer->interface, drivers[i].interface, sizeof offer->interface) && !offer->subchannel;
            if (is_for_it && !drivers[i].use(offer))
                return false;
        }
    return true;
}

static bool use_vmbus(void)
{
    if (!session_begin())
        return false;
    list_offers();
    return use_devices() && session_end();
}

int main(void)
{
    checks_be_quiet();
    greet();
    if (session_is_possible() && (!use_vmbus() || checks_failed()))
        return EXIT_FAILED;
    print("All is well; turning the machine off.\n");
    machine_power_off();
    return EXIT_PASSED;
}
