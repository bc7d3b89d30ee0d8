// What a model file says of its model, checked: every size is one that memory can be counted with, and they agree.
#pragma once

#include <string>
#include <vector>

#include "interface.h"
#include "rmeeto.h"

namespace rmeeto {

constexpr int64_t FORMAT_VERSION = 1;

struct Description {
    std::string name, reduction, interpolation;
    Storage precision = FLOAT32;                            // of products
    int64_t channels = 0, frames = 0, height = 0, width = 0;  // of the input
    int64_t tubelet = 0, high = 0, wide = 0;                  // of a patch
    int64_t depth = 0, dim = 0, inner = 0, states = 0, rank = 0, taps = 0, classes = 0;
    double block_eps = 0, head_eps = 0, scale = 1;  // scale: of what both directions give together
    std::vector<int64_t> protected_at;              // the class token's place first
    std::vector<int64_t> removed;                   // before each block
    Pairing pairing = WITHIN_REACH;
    int64_t distance = COSINE, nth = 1, reach = 0;  // within reach; 0: a row may join any other
    int64_t guard = 0;                              // beside: rows on each side of the class token that stay
    std::vector<double> mean, std;                  // by channel
    int64_t resized_height = 0, resized_width = 0;  // what is resized to, before the middle is cropped
    int64_t pillow = 0;                             // the version whose resizing is followed
    std::vector<std::string> class_names;           // by label, or none

    int64_t across() const { return width / wide; }
    int64_t patches() const { return frames / tubelet * (height / high) * across(); }
    int64_t tokens() const { return patches() + static_cast<int64_t>(protected_at.size()); }
    int64_t image_size() const { return channels * frames * height * width; }
    int64_t patch_size() const { return channels * tubelet * high * wide; }
};

rmeeto_status read_description(const std::string& json, Description& to, rmeeto_error* error);

// Refuses reductions that the tokens do not allow. removed: (depth,).
rmeeto_status check_removed(const Description& of, const int64_t* removed, rmeeto_status status, rmeeto_error* error);

}  // namespace rmeeto
