/*
 * A viewer made with libvncclient. After each update, it writes its picture to standard output: width, height, the number of rectangles
 * that it was told to copy, and the value of each pixel, as numbers of 32 bits.
 *
 *     vnc_client HOST PORT ENCODINGS BITS
 *
 * HOST can be the path of a Unix socket. BITS is the length of a pixel: 8, 16 or 32. The variable VNC_PASSWORD has the password, and VNC_CA
 * the path of the certificate that is trusted. A line `WIDTH HEIGHT` on standard input asks for a size of the screen.
 */
#include <rfb/rfbclient.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>

enum { REFUSED = 1, OVER };

static uint32_t copies;
static GotCopyRectProc copy_pixels;

static void copied(rfbClient *client, int from_x, int from_y, int width, int height, int x, int y)
{
    copies++;
    copy_pixels(client, from_x, from_y, width, height, x, y);
}

static void updated(rfbClient *client)
{
    const uint32_t head[] = {client->width, client->height, copies};
    fwrite(head, sizeof head, 1, stdout);
    for (int at = 0; at < client->width * client->height; at++) {
        const uint8_t *frame = client->frameBuffer;
        int bits = client->format.bitsPerPixel;
        uint32_t pixel = bits == 8 ? frame[at] : bits == 16 ? ((const uint16_t *)frame)[at] : ((const uint32_t *)frame)[at];
        fwrite(&pixel, sizeof pixel, 1, stdout);
    }
    fflush(stdout);
}

static char *password(rfbClient *client)
{
    const char *value = getenv("VNC_PASSWORD");
    (void)client;
    return strdup(value ? value : "");
}

static rfbCredential *credential(rfbClient *client, int kind)
{
    const char *path = getenv("VNC_CA");
    rfbCredential *certificate = kind == rfbCredentialTypeX509 && path ? calloc(1, sizeof *certificate) : NULL;
    (void)client;
    if (certificate)
        certificate->x509Credential.x509CACertFile = strdup(path);
    return certificate;
}

/* Reads a line. Returns false at the end. */
static int ask_for_size(rfbClient *client)
{
    char line[32];
    unsigned width, height;
    if (!fgets(line, sizeof line, stdin))
        return 0;
    return sscanf(line, "%u %u", &width, &height) == 2 && SendExtDesktopSize(client, width, height);
}

int main(int count, char **arguments)
{
    if (count != 5)
        return REFUSED;
    int bits = atoi(arguments[4]);
    rfbClient *client = rfbGetClient(bits == 32 ? 8 : bits == 16 ? 5 : 2, 3, bits / 8);
    client->serverHost = strdup(arguments[1]);
    client->serverPort = atoi(arguments[2]);
    client->appData.encodingsString = arguments[3];
    client->canHandleNewFBSize = 1;
    copy_pixels = client->GotCopyRect;
    client->GotCopyRect = copied;
    client->FinishedFrameBufferUpdate = updated;
    client->GetPassword = password;
    client->GetCredential = credential;
    setvbuf(stdin, NULL, _IONBF, 0);
    if (!rfbInitClient(client, NULL, NULL))
        return REFUSED;
    for (;;) {
        fd_set files;
        FD_ZERO(&files);
        FD_SET(0, &files);
        FD_SET(client->sock, &files);
        /* A message that the library has already read or decrypted makes no file ready. */
        if (!client->tlsSession && !client->buffered) {
            if (select(client->sock + 1, &files, NULL, NULL, NULL) < 0)
                return OVER;
            if (FD_ISSET(0, &files) && !ask_for_size(client))
                return 0;
            if (!FD_ISSET(client->sock, &files))
                continue;
        }
        if (!HandleRFBServerMessage(client))
            return OVER;
    }
}
