// What the page calls: the functions of rmeeto.h without structures, because JavaScript would have to count bytes to
// read one. Sizes and schedules are of 32 bits, which JavaScript's numbers hold.
#include <cstdint>
#include <vector>

#include "rmeeto.h"

#define EXPORT(name) extern "C" __attribute__((export_name(#name)))

static rmeeto_error error;

// The page has one thread, which ends with it: what is kept for each thread is never cleaned up.
extern "C" int __cxa_thread_atexit(void (*)(void*), void*, void*) { return 0; }

EXPORT(error_text) const char* error_text() { return error.text; }

// Null if the file is refused; error_text() says why. The file may be released afterwards.
EXPORT(open_model) rmeeto_model* open_model(const void* file, size_t size) {
    rmeeto_model* model = nullptr;
    rmeeto_open_memory(file, size, &model, &error);
    return model;
}

EXPORT(description) const char* description(const rmeeto_model* model) { return rmeeto_describe(model)->description; }

EXPORT(prepare)
bool prepare(const rmeeto_model* model, const uint8_t* pixels, int32_t height, int32_t width, int32_t frame,
             float* image) {
    return rmeeto_prepare(model, pixels, height, width, frame, image, &error) == RMEETO_OK;
}

// removed: (depth,). merge_map: (tokens,), or null.
EXPORT(run)
bool run(const rmeeto_model* model, const float* image, const int32_t* removed, float* logits, int32_t* merge_map) {
    const rmeeto_info& info = *rmeeto_describe(model);
    const std::vector<int64_t> counts(removed, removed + info.depth);
    std::vector<int64_t> map(merge_map ? static_cast<size_t>(info.tokens) : 0);
    rmeeto_options options{};
    options.removed = counts.data();
    if (rmeeto_run(model, image, 1, &options, logits, merge_map ? map.data() : nullptr, &error)) return false;
    for (size_t token = 0; token < map.size(); token++) merge_map[token] = static_cast<int32_t>(map[token]);
    return true;
}
