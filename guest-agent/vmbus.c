/* A replacement for lsvmbus in guests without it: prints the devices of VMBus from sysfs. */
#include "frames.h"

#define DEVICES "/sys/bus/vmbus/devices"
#define MOST 1024

static const struct {
    const char *class_id, *name;
} known[] = {
    { "0e0b6031-5213-4934-818b-38d90ced39db", "Operating system shutdown" },
    { "9527e630-d0ae-497b-adce-e80ab0175caf", "Time Synchronization" },
    { "57164f39-9115-4e78-ab55-382f3bd5422d", "Heartbeat" },
    { "a9a0f4e7-5a45-4d96-b827-8a841e8c03e6", "Data Exchange" },
    { "35fa2e29-ea23-4236-96ae-3a6ebacba440", "Backup (volume checkpoint)" },
    { "34d14be3-dee4-41c8-9ae7-6b174977c192", "Guest services" },
    { "525074dc-8985-46e2-8057-a307dc18a502", "Dynamic memory" },
    { "cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a", "Synthetic mouse" },
    { "f912ad6d-2b17-48ea-bd65-f927a61c7684", "Synthetic keyboard" },
    { "da0a7802-e377-4aac-8e77-0558eb1073f8", "Synthetic framebuffer adapter" },
    { "f8615163-df3e-46c5-913f-f2d2f965ed0e", "Synthetic network adapter" },
    { "32412632-86cb-44a2-9b5c-50d1417354f5", "Synthetic IDE Controller" },
    { "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f", "Synthetic SCSI Controller" },
    { "2f9bcc4a-0069-4af3-b76b-6fd0be528cda", "Synthetic fiber channel adapter" },
    { "44c4f61d-4444-4400-9d52-802e27ede19f", "PCI Express pass-through" },
};

struct entry {
    u64 inode, next;
    u16 length;
    u8 type;
    char name[];
};

static long read_file(const char *device, const char *file, char *text, u32 size)
{
    char path[512] = DEVICES "/";
    append(path, sizeof path, device);
    append(path, sizeof path, file);
    long fd = call(__NR_open, path, O_RDONLY);
    if (fd < 0)
        return fd;
    long length = call(__NR_read, fd, text, size - 1);
    call(__NR_close, fd);
    while (length > 0 && text[length - 1] == '\n')
        length--;
    text[length < 0 ? 0 : length] = 0;
    return length;
}

void list_vmbus(void)
{
    static char entries[64 * 1024], names[MOST][48];
    static u32 ids[MOST];
    u32 count = 0;
    long fd = call(__NR_open, DEVICES, O_RDONLY | O_DIRECTORY), length;
    if (fd < 0) {
        say("there is no VMBus here: no", DEVICES, fd);
        quit(1);
    }
    while ((length = call(__NR_getdents64, fd, entries, sizeof entries)) > 0)
        for (long place = 0; place < length;) {
            const struct entry *entry = (const struct entry *)(entries + place);
            place += entry->length;
            char id[24];
            if (entry->name[0] == '.' || count == MOST || strlen(entry->name) >= sizeof names[0]
                || read_file(entry->name, "/id", id, sizeof id) < 0)
                continue;
            /* Sort the devices by their ids. */
            u32 place_of = count++, value = number(id);
            for (; place_of && ids[place_of - 1] > value; place_of--) {
                ids[place_of] = ids[place_of - 1];
                memcpy(names[place_of], names[place_of - 1], sizeof names[0]);
            }
            ids[place_of] = value;
            memcpy(names[place_of], entry->name, strlen(entry->name) + 1);
        }
    for (u32 i = 0; i < count; i++) {
        char line[256] = "VMBUS ID ", id[24], class_id[64], driver[256];
        const char *name = "Unknown", *bare = class_id;
        read_file(names[i], "/id", id, sizeof id);
        read_file(names[i], "/class_id", class_id, sizeof class_id);
        if (*bare == '{')
            bare++;
        for (u32 k = 0; k < sizeof known / sizeof *known; k++)
            if (after(bare, known[k].class_id))
                name = known[k].name;
        append(line, sizeof line, strlen(id) < 2 ? " " : "");
        append(line, sizeof line, id);
        append(line, sizeof line, ": ");
        append(line, sizeof line, name);
        char path[512] = DEVICES "/";
        append(path, sizeof path, names[i]);
        append(path, sizeof path, "/driver");
        long size = call(__NR_readlink, path, driver, sizeof driver - 1);
        if (size > 0) {
            driver[size] = 0;
            const char *last = driver;
            for (const char *c = driver; *c; c++)
                if (*c == '/')
                    last = c + 1;
            append(line, sizeof line, " [");
            append(line, sizeof line, last);
            append(line, sizeof line, "]");
        }
        append(line, sizeof line, "\n");
        call(__NR_write, 1, line, strlen(line));
    }
    quit(0);
}
