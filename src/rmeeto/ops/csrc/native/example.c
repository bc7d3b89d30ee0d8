/* The smallest program with librmeeto: names what is in a picture.
 *
 *     cc example.c $(pkg-config --cflags --libs rmeeto) -o example
 *     ./example model.rmeeto picture.ppm
 */
#include <rmeeto.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char* why) {
    fprintf(stderr, "%s\n", why);
    return 1;
}

/* Binary PPM without comments: width, height and 255 as text, one space, and three bytes for each pixel. */
static uint8_t* read_ppm(const char* path, int64_t* height, int64_t* width) {
    FILE* file = fopen(path, "rb");
    long long w = 0, h = 0;
    uint8_t* pixels = NULL;
    if (!file) return NULL;
    if (fscanf(file, "P6 %lld %lld 255", &w, &h) == 2 && fgetc(file) != EOF && w > 0 && h > 0 && w < 65536 && h < 65536) {
        pixels = malloc((size_t)(w * h * 3));
        if (pixels && fread(pixels, 3, (size_t)(w * h), file) != (size_t)(w * h)) {
            free(pixels);
            pixels = NULL;
        }
    }
    fclose(file);
    *width = w, *height = h;
    return pixels;
}

int main(int count, char** words) {
    rmeeto_error error;
    rmeeto_model* model;
    const rmeeto_info* info;
    uint8_t* pixels;
    float *image, *logits;
    int64_t height, width, label, best = 0;

    if (count != 3) return fail("usage: example MODEL PICTURE.ppm");
    if (rmeeto_open(words[1], &model, &error)) return fail(error.text);
    info = rmeeto_describe(model);
    if (info->channels != 3 || info->frames != 1) return fail("the model does not take coloured pictures");
    pixels = read_ppm(words[2], &height, &width);
    if (!pixels) return fail("the picture cannot be read");

    image = malloc(sizeof(float) * (size_t)info->image_size);
    logits = malloc(sizeof(float) * (size_t)info->classes);
    if (!image || !logits) return fail("no memory left");
    if (rmeeto_prepare(model, pixels, height, width, 0, image, &error)) return fail(error.text);
    if (rmeeto_run(model, image, 1, NULL, logits, NULL, &error)) return fail(error.text);

    for (label = 1; label < info->classes; label++)
        if (logits[label] > logits[best]) best = label;
    if (info->class_names)
        printf("%s (%.9g)\n", info->class_names[best], logits[best]);
    else
        printf("class %lld (%.9g)\n", (long long)best, logits[best]);

    free(pixels), free(image), free(logits);
    rmeeto_close(model);
    return 0;
}
