// A model whose weights have been packed for this processor, and that runs.
#pragma once

#include <memory>
#include <vector>

#include "description.h"
#include "packing.h"
#include "tensor_file.h"

namespace rmeeto {

struct Run {
    const float* images;
    int64_t batch;
    int threads;
    const int64_t* removed;  // (depth,)
    float* logits;
    int64_t* source_map;  // or null
};

class PackedModel {
public:
    // Reads and packs all weights of a file.
    rmeeto_status load(const TensorFile& file, const Description& description, rmeeto_error* error);
    // Arguments have been checked.
    rmeeto_status run(const Run& run, rmeeto_error* error) const;

private:
    struct Release {
        void operator()(FrozenBlock* block) const { rmeeto_block_release(block); }
        void operator()(FrozenLinear* linear) const { rmeeto_linear_release(linear); }
    };

    rmeeto_status load_ends(const TensorFile& file, rmeeto_error* error);
    rmeeto_status load_block(const TensorFile& file, int64_t number, rmeeto_error* error);
    rmeeto_status check_memory(int64_t batch, rmeeto_error* error) const;
    void place_patches();
    Network network(const Run& run) const;

    const Description* of_ = nullptr;
    std::unique_ptr<FrozenLinear, Release> embedder_, classifier_;
    std::vector<std::unique_ptr<FrozenBlock, Release>> blocks_;
    std::vector<void*> block_pointers_;
    std::vector<float> table_, norm_weight_, bias_;
    std::vector<int64_t> patch_at_;
};

}  // namespace rmeeto
