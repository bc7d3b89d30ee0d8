/* Opens, runs and closes a model again and again: cycles MODEL TIMES. Valgrind watches it. */
#include <rmeeto.h>
#include <stdio.h>
#include <stdlib.h>

int main(int count, char** words) {
    int times = count == 3 ? atoi(words[2]) : 0, i;
    rmeeto_error error;
    for (i = 0; i < times; i++) {
        rmeeto_model* model = NULL;
        const rmeeto_info* info;
        float *image, *logits;
        int64_t* map;
        int failed;
        if (rmeeto_open(words[1], &model, &error)) return fprintf(stderr, "%s\n", error.text), 1;
        info = rmeeto_describe(model);
        image = calloc((size_t)info->image_size, sizeof *image);
        logits = malloc((size_t)info->classes * sizeof *logits);
        map = malloc((size_t)info->tokens * sizeof *map);
        failed = rmeeto_run(model, image, 1, NULL, logits, map, &error);
        failed |= logits[0] != logits[0];  /* valgrind sees it if they were never written */
        free(image), free(logits), free(map);
        rmeeto_close(model);
        if (failed) return 1;
    }
    return times ? 0 : 2;
}
