/*
 * A guest that uses what it is offered, as a guest of Hyper-V does: the image that `viridian run` starts by default.
 *
 * It greets, connects to VMBus, lists the offers, uses each device that it has a driver for, and turns the machine off. A line
 * tells of each step; the first that fails ends the image with EXIT_FAILED. Without VMBus there is nothing to use, which is no
 * failure.
 */
#include "vsc.h"

#include "greeting.h"
#include "hypercall.h"
#include "interfaces.h"

/* Says what VMBus needs and CPUID does not grant. */
static bool has_vmbus(void)
{
    static const struct {
        enum hv_feature feature;
        const char *name;
    } needs[] = {
        {HV_ACCESS_HYPERCALL_MSRS, "AccessHypercallMsrs"},
        {HV_ACCESS_VP_INDEX, "AccessVpIndex"},
        {HV_ACCESS_SYNIC, "AccessSynicRegs"},
        {HV_POST_MESSAGES, "PostMessages"},
        {HV_SIGNAL_EVENTS, "SignalEvents"},
    };
    if (!hyperv_is_there()) {
        print("  VMBus          none: the machine does not speak Hyper-V\n");
        return false;
    }
    for (unsigned i = 0; i < ARRAY_LENGTH(needs); i++)
        if (!hyperv_has(needs[i].feature)) {
            print("  VMBus          none: the hypervisor does not grant %s\n", needs[i].name);
            return false;
        }
    return true;
}

static bool connect(void)
{
    apic_initialize();
    if (!hypercall_enable())
        return FAILED("the hypercall page cannot be enabled");
    vmbus_listen();
    uint32_t version = vmbus_negotiate();
    if (!version)
        return FAILED("the host speaks no version of VMBus that this guest knows");
    print("  VMBus          version %u.%u\n", version >> 16, version & 0xffff);
    return vmbus_request_offers() || FAILED("the host does not tell all that it offers");
}

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
    if (!connect())
        return false;
    list_offers();
    return use_devices() && (vmbus_unload() || FAILED("VMBus cannot be left"));
}

int main(void)
{
    checks_be_quiet();
    greet();
    if (has_vmbus() && (!use_vmbus() || checks_failed()))
        return EXIT_FAILED;
    print("All is well; turning the machine off.\n");
    machine_power_off();
    return EXIT_PASSED;
}
