// A picture as a model was evaluated on it: resized, its middle cropped, normalised.
#pragma once

#include "description.h"

namespace rmeeto {

struct Picture {
    const uint8_t* pixels;  // (height, width, channels)
    int64_t height, width;
};

// Writes one frame of `image`, (channels, frames, height, width).
rmeeto_status prepare(const Description& of, const Picture& picture, int64_t frame, float* image, rmeeto_error* error);

}  // namespace rmeeto
