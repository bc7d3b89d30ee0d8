// Close the gaps that rows leave behind; see lay_out in rmeeto/ops/layout.py for the meaning.
#pragma once

#include "interface.h"
#include "parallel.h"
#include "positions.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

constexpr int64_t FEW_ROWS = 16384;  // that one thread has done before others are awake

struct LayoutJob {
    const Layout& layout;
    int* outcome;
};

static void lay_out_image(const void* pointer, int64_t image, void*) {
    const LayoutJob& job = *static_cast<const LayoutJob*>(pointer);
    const Layout& layout = job.layout;
    const int64_t left = layout.tokens - layout.removed;
    int64_t* const kept = layout.kept + image * left;
    int64_t* const place = layout.place + image * layout.tokens;
    for (int64_t row = 0; row < layout.tokens; row++) place[row] = 0;
    for (int64_t i = 0; i < layout.removed; i++) place[position(layout.source, image, i)] = -1;
    int64_t stay = 0;
    for (int64_t row = 0; row < layout.tokens; row++) {
        if (place[row] < 0) continue;
        if (stay < left) kept[stay] = row;
        place[row] = stay++;
    }
    if (stay != left) __atomic_store_n(job.outcome, (int)OUTSIDE, __ATOMIC_RELAXED);  // some row leaves twice
    if (!layout.target.data) return;
    for (int64_t i = 0; i < layout.removed; i++)
        place[position(layout.source, image, i)] = place[position(layout.target, image, i)];
}

static int lay_out(const Layout& layout, int threads) {
    if (!stays_within(layout.source, layout.batch, layout.removed, layout.tokens) ||
        (layout.target.data && !stays_within(layout.target, layout.batch, layout.removed, layout.tokens)))
        return OUTSIDE;
    int outcome = DONE;
    const LayoutJob job{layout, &outcome};
    for_each(layout.batch, layout.batch * layout.tokens < FEW_ROWS ? 1 : threads, 0, lay_out_image, &job);
    return outcome;
}

}  // namespace rmeeto::RMEETO_ISA
