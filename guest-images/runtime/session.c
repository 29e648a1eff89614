/*
 * Steps from CPUID to a network adapter with an address, with the lines that users read.
 */
#include "session.h"

#include "apic.h"
#include "hypercall.h"
#include "hyperv.h"
#include "memory.h"
#include "runtime.h"
#include "time.h"

bool session_is_possible(void)
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

bool session_begin(void)
{
    apic_initialize();
    ticks_start();
    if (!hypercall_enable())
        return FAILED("the hypercall page cannot be enabled");
    vmbus_listen();
    uint32_t version = vmbus_negotiate();
    if (!version)
        return FAILED("the host speaks no version of VMBus that this guest knows");
    print("  VMBus          version %u.%u\n", version >> 16, version & 0xffff);
    return vmbus_request_offers() || FAILED("the host does not tell all that it offers");
}

bool session_end(void)
{
    return vmbus_unload() || FAILED("VMBus cannot be left");
}

int session_of_drivers(bool (*good)(void), const struct test *hostile, unsigned count)
{
    const char *driver = command_line_value("driver");
    bool is_good = driver && text_equal(driver, "good"); /* before the next look-up overwrites the value */
    if (!session_is_possible() || !session_begin())
        return EXIT_FAILED;
    if (!is_good)
        return checks_run(hostile, count);
    if (!good() || !session_end() || checks_failed())
        return EXIT_FAILED;
    machine_power_off();
    return EXIT_FAILED;
}

bool session_open_adapter(struct netvsc *netvsc, const struct offer *offer, void *memory)
{
    const uint8_t *mac = netvsc->mac.bytes;
    if (!netvsc_open(netvsc, offer, memory))
        return FAILED("channel %u cannot be opened", offer->channel);
    print("  network        channel %u is open\n", offer->channel);
    if (!netvsc_negotiate(netvsc)) {
        if (netvsc->status == UINT32_MAX)
            return FAILED("the adapter does not answer %s", netvsc->asked);
        return FAILED("the adapter answers %s with status 0x%x", netvsc->asked, netvsc->status);
    }
    print("    protocol     NVSP 0x%x, %u sections to receive in\n", netvsc->version, netvsc->sections);
    print("    adapter      %02x:%02x:%02x:%02x:%02x:%02x, link %s\n", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5],
          netvsc->link_is_up ? "up" : "down");
    return true;
}

bool session_close_adapter(struct netvsc *netvsc)
{
    return netvsc_close(netvsc) || FAILED("channel %u cannot be closed", netvsc->channel.offer->channel);
}

void session_get_address(struct ipv4_host *host)
{
    if (ipv4_configure(host))
        print("    DHCP         %u.%u.%u.%u, mask %u.%u.%u.%u, for %u seconds\n", IPV4_BYTES(host->address),
              IPV4_BYTES(host->mask), host->lease_seconds);
    else
        print("    DHCP         nobody gives an address\n");
}
