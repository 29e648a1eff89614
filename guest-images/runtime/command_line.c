/*
 * Looks up words in the boot protocol's command line. Unknown words are ignored, such as the path that some loaders put first.
 */
#include "command_line.h"

#include <stddef.h>

#include "boot_info.h"
#include "console.h"
#include "memory.h"
#include "power.h"
#include "text.h"

const char *command_line_value(const char *name)
{
    static char value[COMMAND_LINE_VALUE_MAX];
    const char *found = NULL;
    size_t name_length = text_length(name);

    for (const char *word = boot_info.command_line; *word;) {
        size_t length = 0;
        while (word[length] && word[length] != ' ')
            length++;
        if (length >= name_length && memcmp(word, name, name_length) == 0 &&
            (length == name_length || word[name_length] == '=')) {
            size_t skip = length == name_length ? name_length : name_length + 1;
            size_t value_length = length - skip;
            if (value_length >= sizeof value)
                value_length = sizeof value - 1;
            memcpy(value, word + skip, value_length);
            value[value_length] = 0;
            found = value;
        }
        for (word += length; *word == ' ';)
            word++;
    }
    return found;
}

bool command_line_has(const char *name)
{
    return command_line_value(name) != NULL;
}

uint64_t command_line_number(const char *name, uint64_t otherwise)
{
    const char *value = command_line_value(name);
    uint64_t number = otherwise;

    if (value && !text_to_number(value, &number)) {
        print("%s=%s: the value is not a number\n", name, value);
        machine_exit(EXIT_USAGE);
    }
    return number;
}
