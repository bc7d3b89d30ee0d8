/* librmeeto: run a frozen Vision Mamba from a file, without Python.
 *
 * A model file is a safetensors file that holds the weights, the sizes, the reduction, the names of the classes and how
 * images are prepared. Python writes it: rmeeto.native.save(model, "model.rmeeto").
 *
 *     rmeeto_error error;
 *     rmeeto_model* model;
 *     if (rmeeto_open("model.rmeeto", &model, &error)) fail(error.text);
 *     const rmeeto_info* info = rmeeto_describe(model);
 *     float* image = malloc(sizeof(float) * info->image_size);
 *     float* logits = malloc(sizeof(float) * info->classes);
 *     if (rmeeto_prepare(model, pixels, height, width, 0, image, &error)) fail(error.text);
 *     if (rmeeto_run(model, image, 1, NULL, logits, NULL, &error)) fail(error.text);
 *     rmeeto_close(model);
 *
 * A model does not change once it is open: any number of threads may use it at once. Only rmeeto_close must be the last
 * call. No function keeps anything between two calls that another call could see. */
#ifndef RMEETO_H
#define RMEETO_H

#include <stddef.h>
#include <stdint.h>

#define RMEETO_VERSION "0.1.0"

#if defined(__GNUC__)
#define RMEETO_API __attribute__((visibility("default")))
#else
#define RMEETO_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What functions return. Everything but RMEETO_OK leaves a text in `error`, and all other results as they were. */
typedef enum rmeeto_status {
    RMEETO_OK = 0,
    RMEETO_CANNOT_READ = 1, /* there is no such file, or the system does not let us read it */
    RMEETO_DAMAGED = 2,     /* the file is no model file, is damaged, or contradicts itself */
    RMEETO_UNSUPPORTED = 3, /* the file asks for something that this library cannot do */
    RMEETO_INVALID = 4,     /* an argument is impossible */
    RMEETO_NO_MEMORY = 5
} rmeeto_status;

/* Why a call failed: one line of UTF-8. Every function takes NULL in its place. */
typedef struct rmeeto_error {
    char text[256];
} rmeeto_error;

typedef struct rmeeto_model rmeeto_model;

/* What a model is. It belongs to the model and lives as long; later versions append to it. */
typedef struct rmeeto_info {
    const char* name;        /* such as "vim_tiny" */
    const char* reduction;   /* as rmeeto writes it, such as "merge:r=11"; "" for none */
    const char* precision;   /* of products: "float32" or "bfloat16" */
    const char* kernels;     /* the instruction set that computes: "avx512_bf16", "avx512", "avx2" or "portable" */
    const char* description; /* JSON: all that the file says of the model */
    int64_t channels, frames, height, width; /* of an image, or of a clip, which has more frames than one */
    int64_t image_size;                      /* channels * frames * height * width */
    int64_t classes;
    const char* const* class_names; /* (classes,), or NULL if the file has none */
    int64_t depth;                  /* blocks */
    int64_t tokens;                 /* that enter the first block; the length of a merge map */
    int64_t tokens_left;            /* that leave the last one */
    const int64_t* removed;         /* (depth,): tokens merged before each block */
    int64_t protected_count;
    const int64_t* protected_at; /* (protected_count,): tokens that are no patches, the class token's place first */
} rmeeto_info;

/* Opens a file. */
RMEETO_API rmeeto_status rmeeto_open(const char* path, rmeeto_model** model, rmeeto_error* error);

/* Opens a file that lies in memory; `data` may be released afterwards. */
RMEETO_API rmeeto_status rmeeto_open_memory(const void* data, size_t size, rmeeto_model** model, rmeeto_error* error);

RMEETO_API const rmeeto_info* rmeeto_describe(const rmeeto_model* model);

/* Releases a model; NULL is allowed. */
RMEETO_API void rmeeto_close(rmeeto_model* model);

/* How to run. Set all of it to zero first: later versions append to it. */
typedef struct rmeeto_options {
    int threads;            /* to compute with; 0 is one. Results do not depend on it. */
    const int64_t* removed; /* (depth,): tokens to merge before each block, in place of the model's own; or NULL */
} rmeeto_options;

/* Computes logits.
 * images: (batch, channels, [frames,] height, width), prepared as rmeeto_prepare does it.
 * options: or NULL.
 * logits: (batch, classes).
 * merge_map: (batch, tokens), which of the last tokens each of the first has become a part of; or NULL.
 * If memory runs out in the middle, logits and map hold nothing of use. */
RMEETO_API rmeeto_status rmeeto_run(const rmeeto_model* model, const float* images, int64_t batch,
                                    const rmeeto_options* options, float* logits, int64_t* merge_map,
                                    rmeeto_error* error);

/* Prepares one picture as the model was evaluated: shorter side resized, middle cropped, normalised.
 * pixels: (height, width, channels), 0 to 255, with as many channels as the model takes (3 are red, green, blue).
 * frame: which frame of the clip the picture is; 0 for an image.
 * image: where the whole image or clip is, (channels, frames, height, width); only this frame of it is written. */
RMEETO_API rmeeto_status rmeeto_prepare(const rmeeto_model* model, const uint8_t* pixels, int64_t height, int64_t width,
                                        int64_t frame, float* image, rmeeto_error* error);

/* RMEETO_VERSION of the library, which may be another than that of this header. */
RMEETO_API const char* rmeeto_version(void);

#ifdef __cplusplus
}
#endif
#endif
