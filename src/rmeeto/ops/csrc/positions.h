// Tensors of positions, (batch, count) int64.
#pragma once

#include "interface.h"
#include "scan.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

INLINE int64_t position(const Tokens& index, int64_t image, int64_t i) { return *at<const int64_t>(index, image, i, 0); }

// Whether all of them stay within [0, length).
INLINE bool stays_within(const Tokens& index, int64_t batch, int64_t count, int64_t length) {
    uint64_t most = 0;  // a negative one is huge
    for (int64_t image = 0; image < batch; image++)
        for (int64_t i = 0; i < count; i++) {
            const uint64_t here = (uint64_t)position(index, image, i);
            most = here > most ? here : most;
        }
    return most < (uint64_t)length || batch * count == 0;
}

}  // namespace rmeeto::RMEETO_ISA
