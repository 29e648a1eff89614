/*
 * Interface GUIDs, as they are written: the first three groups are little-endian numbers, the other two bytes in order.
 */
#include "interfaces.h"

#include "memory.h"

#define BYTE(number, index) ((uint64_t)(number) >> 8 * (index) & 0xff)
#define GUID(first, second, third, fourth, fifth)                                                                        \
    {                                                                                                                    \
        {                                                                                                                \
            BYTE(first, 0), BYTE(first, 1), BYTE(first, 2), BYTE(first, 3), BYTE(second, 0), BYTE(second, 1),            \
                BYTE(third, 0), BYTE(third, 1), BYTE(fourth, 1), BYTE(fourth, 0), BYTE(fifth, 5), BYTE(fifth, 4),        \
                BYTE(fifth, 3), BYTE(fifth, 2), BYTE(fifth, 1), BYTE(fifth, 0)                                           \
        }                                                                                                                \
    }
#define SCSI GUID(0xba6163d9, 0x04a1, 0x4d29, 0xb605, 0x72e2ffb1dc7f)
#define NETWORK GUID(0xf8615163, 0xdf3e, 0x46c5, 0x913f, 0xf2d2f965ed0e)
#define VIDEO GUID(0xda0a7802, 0xe377, 0x4aac, 0x8e77, 0x0558eb1073f8)

const struct guid scsi_interface = SCSI, network_interface = NETWORK, video_interface = VIDEO;

const char *interface_name(const struct guid *interface)
{
    static const struct {
        struct guid interface;
        const char *name;
    } known[] = {
        {SCSI, "SCSI"},
        {NETWORK, "network"},
        {GUID(0x32412632, 0x86cb, 0x44a2, 0x9b5c, 0x50d1417354f5), "IDE"},
        {GUID(0x2f9bcc4a, 0x0069, 0x4af3, 0xb76b, 0x6fd0be528cda), "Fibre Channel"},
        {VIDEO, "video"},
        {GUID(0xf912ad6d, 0x2b17, 0x48ea, 0xbd65, 0xf927a61c7684), "keyboard"},
        {GUID(0xcfa8b69e, 0x5b4a, 0x4cc0, 0xb98b, 0x8ba1a1f3f95a), "mouse"},
        {GUID(0x525074dc, 0x8985, 0x46e2, 0x8057, 0xa307dc18a502), "balloon"},
        {GUID(0x44c4f61d, 0x4444, 0x4400, 0x9d52, 0x802e27ede19f), "PCI"},
        {GUID(0x57164f39, 0x9115, 0x4e78, 0xab55, 0x382f3bd5422d), "heartbeat"},
        {GUID(0x0e0b6031, 0x5213, 0x4934, 0x818b, 0x38d90ced39db), "shutdown"},
        {GUID(0x9527e630, 0xd0ae, 0x497b, 0xadce, 0xe80ab0175caf), "time sync"},
        {GUID(0xa9a0f4e7, 0x5a45, 0x4d96, 0xb827, 0x8a841e8c03e6), "KVP"},
        {GUID(0x35fa2e29, 0xea23, 0x4236, 0x96ae, 0x3a6ebacba440), "VSS"},
        {GUID(0x34d14be3, 0xdee4, 0x41c8, 0x9ae7, 0x6b174977c192), "file copy"},
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(known); i++)
        if (!memcmp(interface, &known[i].interface, sizeof *interface))
            return known[i].name;
    return "other";
}
