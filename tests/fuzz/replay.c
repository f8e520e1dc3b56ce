/* Runs a fuzzer on the files that are its arguments, where there is no libFuzzer. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int count, char **paths)
{
    enum { MOST = 1 << 20 };
    uint8_t *data = malloc(MOST);
    if (!data) return 1;
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(paths[i], "rb");
        if (!file) return 1;
        size_t size = fread(data, 1, MOST, file);
        fclose(file);
        uint8_t *exact = malloc(size ? size : 1); /* so that a byte too many is found */
        if (!exact) return 1;
        for (size_t k = 0; k < size; k++) exact[k] = data[k];
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    free(data);
    printf("%d inputs\n", count - 1);
    return 0;
}
