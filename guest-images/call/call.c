/*
 * Makes one hypercall with eight bytes of input and eight bytes of output, and prints its status and output.
 *
 * Command line: `code=N value=N`.
 */
#include "hypercall.h"
#include "runtime.h"

int main(void)
{
    uint64_t *input = pages_allocate_zeroed(1), *output = pages_allocate_zeroed(1);
    uint64_t code = command_line_number("code", UINT64_MAX);
    if (code > UINT16_MAX)
        return EXIT_USAGE;
    if (!hypercall_enable())
        return EXIT_FAILED;
    *input = command_line_number("value", 0);
    uint64_t result = hypercall(code, (uint64_t)input, (uint64_t)output);
    print("status %lu, output %lu\n", RESULT_STATUS(result), *output);
    return EXIT_PASSED;
}
