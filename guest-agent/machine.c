/* What the agent does as the first process of a machine: mounts and modules. */
#include "frames.h"

#define MS_NOSUID 2
#define MS_NODEV 4
#define MS_NOEXEC 8
static void mount_or_say(const char *type, const char *target, u32 flags, const char *options)
{
    call(__NR_mkdir, target, 0755);
    long error = call(__NR_mount, type, target, type, flags, options);
    if (error && error != -EBUSY)
        say("cannot mount", target, error);
}

static long load_module(const char *path, const char *parameters)
{
    long fd = call(__NR_open, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fd;
    long error = call(__NR_finit_module, fd, parameters, 0);
    call(__NR_close, fd);
    return error == -EEXIST ? 0 : error;
}

/* Loads the modules that /modules.list names, a path a line, perhaps with parameters behind it. */
static void load_modules(void)
{
    static char list[64 * 1024];
    long fd = call(__NR_open, "/modules.list", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    long length = call(__NR_read, fd, list, sizeof list - 1);
    call(__NR_close, fd);
    char *line = list;
    for (long i = 0; i < length; i++) {
        if (list[i] != '\n')
            continue;
        list[i] = 0;
        char *parameters = line;
        while (*parameters && *parameters != ' ')
            parameters++;
        if (*parameters)
            *parameters++ = 0;
        long error = load_module(line, parameters);
        if (error)
            say("cannot load the module", line, error);
        /* Its bytes are the kernel's now. */
        call(__NR_unlink, line);
        line = list + i + 1;
    }
}

void start_machine(void)
{
    mount_or_say("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_or_say("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_or_say("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
    mount_or_say("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666,gid=5");
    mount_or_say("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
    call(__NR_symlink, "/proc/self/fd", "/dev/fd");
    call(__NR_symlink, "/proc/self/fd/0", "/dev/stdin");
    call(__NR_symlink, "/proc/self/fd/1", "/dev/stdout");
    call(__NR_symlink, "/proc/self/fd/2", "/dev/stderr");
    load_modules();
    call(__NR_setsid, 0);
}

void power_off(void)
{
    call(__NR_sync, 0);
    call(__NR_reboot, 0xfee1dead, 672274793, 0x4321fedc, NULL);
    /* The kernel does not come back from that. */
    for (;;)
        call(__NR_pause, 0);
}
