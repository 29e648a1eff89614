/* Copies files. */
#include "frames.h"

/* Bits of a mode: the type, the type of a regular file, and the permissions. */
#define TYPE 0170000
#define REGULAR 0100000
#define PERMISSIONS 07777

static char partial[4096];

static void remove_partial(void)
{
    call(__NR_unlink, partial);
}

static void refuse(u32 what, long error) __attribute__((noreturn));
static void refuse(u32 what, long error)
{
    send_failure(what, error);
    quit(1);
}

/* Payload: the mode, a flag (1: replace an existing file), and the path. The bytes follow as DATA on stream 0. They are
 * written to another file of the directory, which is renamed at the end. So the file is complete, or unchanged. */
void put_file(u8 *payload, u32 length)
{
    u32 place = 8;
    if (length < place)
        protocol_error();
    u32 mode = read_u32(payload) & PERMISSIONS, replace = read_u32(payload + 4);
    static char path[4000];
    char *text = read_text(payload, length, &place);
    if (place != length || replace > 1)
        protocol_error();
    if (strlen(text) >= sizeof path)
        refuse(NO_FILE, -ENAMETOOLONG);
    memcpy(path, text, strlen(text) + 1);
    struct stat status;
    if (!call(__NR_stat, path, &status)) {
        if (!replace)
            refuse(NO_FILE, -EEXIST);
        if ((status.st_mode & TYPE) != REGULAR)
            refuse(NO_FILE, (status.st_mode & TYPE) == 0040000 ? -EISDIR : -EINVAL);
    }
    append(partial, sizeof partial, path);
    append(partial, sizeof partial, ".viridian-copy");
    long fd = call(__NR_open, partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        refuse(NO_FILE, fd);
    at_hang_up = remove_partial;
    send_now(STARTED, 0, (u32[]){ 0 }, 4);

    long error = 0;
    for (;;) {
        struct header header;
        u8 *bytes = wait_frame(&header);
        int is_over = header.type == END_OF_STREAM && header.length == 0;
        if (header.stream || (!is_over && header.type != DATA))
            protocol_error();
        if (!is_over && !error)
            error = write_all(fd, bytes, header.length);
        u32 granted = header.length;
        drop_frame(&header);
        if (error || is_over)
            break;
        send_now(WINDOW, 0, &granted, sizeof granted);
    }
    if (!error)
        error = call(__NR_fchmod, fd, mode);
    if (!error)
        error = call(__NR_fsync, fd);
    if (error == -EINVAL)
        error = 0; /* The file system does not support it. */
    call(__NR_close, fd);
    if (!error)
        error = replace ? call(__NR_rename, partial, path) : call(__NR_renameat2, AT_FDCWD, partial, AT_FDCWD, path, 1);
    /* Not every file system supports RENAME_NOREPLACE. */
    if (error == -EINVAL && !replace)
        error = call(__NR_link, partial, path) ?: call(__NR_unlink, partial);
    if (error) {
        remove_partial();
        refuse(NO_FILE, error);
    }
    send_now(DONE, 0, NULL, 0);
}

/* Payload: the path. Answer: FILE_MODE with the mode and the size, the bytes on stream 1, and DONE. */
void get_file(u8 *payload, u32 length)
{
    static u8 bytes[MAX_DATA];
    u32 place = 0, window = WINDOW_SIZE;
    const char *path = read_text(payload, length, &place);
    if (place != length)
        protocol_error();
    struct header header = { .length = length };
    struct stat status;
    /* O_NONBLOCK: do not wait for the writer of a named pipe. */
    long fd = call(__NR_open, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        refuse(NO_FILE, fd);
    drop_frame(&header);
    long error = call(__NR_fstat, fd, &status);
    if (!error && (status.st_mode & TYPE) != REGULAR)
        error = (status.st_mode & TYPE) == 0040000 ? -EISDIR : -EINVAL;
    if (error)
        refuse(NO_FILE, error);
    struct {
        u32 mode, zero;
        u64 size;
    } answer = { status.st_mode & PERMISSIONS, 0, status.st_size };
    send_now(FILE_MODE, 0, &answer, sizeof answer);
    for (;;) {
        while (!window) {
            u8 *more = wait_frame(&header);
            u32 granted = header.length == 4 ? read_u32(more) : 0;
            if (header.type != WINDOW || header.stream != STANDARD_OUTPUT || !granted || granted > WINDOW_SIZE)
                protocol_error();
            window += granted;
            drop_frame(&header);
        }
        long count = EINTR_RETRY(call(__NR_read, fd, bytes, window < MAX_DATA ? window : MAX_DATA));
        if (count < 0)
            refuse(NO_FILE, count);
        if (!count)
            break;
        window -= count;
        send_now(DATA, STANDARD_OUTPUT, bytes, count);
    }
    send_now(DONE, 0, NULL, 0);
}
