// The plain C interface: sizes, strides and pointers. The Python side is rmeeto/ops/impl/cpp/, which mirrors the
// structures field by field; every field is eight bytes wide, so that no compiler's padding comes between them.
#pragma once

#include <cstdint>

extern "C" {

enum Storage : int64_t { FLOAT32 = 0, BFLOAT16 = 1 };
// What kernels return; those that read no positions are never OUTSIDE.
enum Outcome : int { OUTSIDE = -1, OUT_OF_MEMORY = 0, DONE = 1 };

enum Distance : int64_t { COSINE = 0, L1 = 1, L2 = 2 };

// Which rows a candidate may join: the targets within reach, or the rows beside it that no guard keeps.
enum Pairing : int64_t { WITHIN_REACH = 0, BESIDE = 1 };

// A (b, l, channels) tensor. Channels lie side by side; the strides count elements. A null pointer means that the
// operand is absent, or its gradient unwanted.
struct Tokens {
    void* data;
    int64_t batch_stride;
    int64_t token_stride;
};

struct Scan {
    int64_t batch, tokens, channels, states;
    int64_t storage;  // of every Tokens below
    int64_t delta_softplus, reverse;
    Tokens u, delta, gate, B, C;
    Tokens out;               // forward only
    const float* A;           // (channels, states)
    const float* skip;        // (channels,) or null
    const float* delta_bias;  // (channels,) or null
    // Backward only.
    Tokens grad, du, ddelta, dgate, dB, dC;
    float* dA;           // (channels, states)
    float* dskip;        // (channels,) or null
    float* ddelta_bias;  // (channels,) or null
};

struct Conv {
    int64_t batch, tokens, channels, width;
    int64_t storage;
    int64_t silu, reverse;
    Tokens x;
    Tokens out;           // forward only
    const float* weight;  // (channels, width)
    const float* bias;    // (channels,) or null
    // Backward only.
    Tokens grad, dx;
    int64_t is_added;  // whether dx is, to what stands there
    float* dweight;    // (channels, width)
    float* dbias;      // (channels,) or null
};

struct Norm {
    int64_t batch, tokens, channels;
    int64_t x_storage, out_storage;
    double eps;
    Tokens x;         // forward only
    Tokens residual;  // forward only, float32 like every stream; absent before the first block
    Tokens stream;    // x + residual: forward writes it, backward reads it
    Tokens out;       // forward only
    const float* weight;  // (channels,)
    // Backward only.
    Tokens grad, grad_stream, dstream;  // of out, in its storage; of the stream; what both make of the stream
    float* dweight;  // (channels,)
};

// One direction of a block. Products have (out, in) weights in the block's storage, everything else is float32.
struct BlockDirection {
    const float* conv_weight;  // (inner, width)
    const float* conv_bias;    // (inner,)
    const float* A;            // (inner, states)
    const float* skip;         // (inner,)
    const float* delta_bias;   // (inner,)
    const void* x_proj;        // (rank + 2 * states, inner)
    const void* dt_proj;       // (inner, rank)
};

// A block between two reductions.
struct BlockWeights {
    int64_t storage;  // of all tokens but the stream, B and C, which are float32
    int64_t dim, inner, states, rank, width;
    double eps;
    double scale;              // of what both directions give together
    const float* norm_weight;  // (dim,)
    const void* in_proj;       // (2 * inner, dim), the gate's half behind what the scans walk over
    const void* out_proj;      // (dim, inner)
    BlockDirection directions[2];  // forward and backward
};

// Its tokens; all tensors are contiguous, (batch, tokens, …) or, of both directions, (2, batch, tokens, …).
struct BlockTokens {
    int64_t batch, tokens, x_storage;
    void* x;          // dim
    float* residual;  // dim, or null
    float* stream;    // dim: x + residual
    void* out;        // dim
    float* b_and_c;   // both, 2 * 16: B and C, each filled up with zeros
    void* dt;         // both, rank: what Δ is projected from
    // Room for `group` images, which are taken through the block together.
    int64_t group;
    void* normed;     // (group, tokens, dim)
    void* projected;  // (group, tokens, 2 * inner)
    void* u;          // (2, group, tokens, inner)
    float* walked;    // (batch, tokens, inner), the sum of both scans before the gate; null for inference
};

// The gradients of a block in float32, from what its forward pass left behind with all images in one group.
struct BlockGradients {
    int64_t batch, tokens;
    const float *stream, *b_and_c, *dt, *normed, *projected, *walked;
    const float* grad;         // of out
    const float* grad_stream;  // of the stream, from behind
    float* dstream;            // of x and of the residual
    float *dnorm_weight, *din_proj, *dout_proj;
    struct {
        float *conv_weight, *conv_bias, *A, *skip, *delta_bias, *x_proj, *dt_proj;
    } directions[2];
};

struct Nearest {
    int64_t batch, rows, columns, width;
    int64_t storage, distance;
    int64_t nth;    // 1 for the nearest
    int64_t reach;  // row i sees the columns [i - reach, i + reach)
    Tokens a, b;
    Tokens a_at, b_at;  // int64, (batch, rows) and (batch, columns): where to read them; null for one after the other
    float* similarity;  // (batch, rows)
    int64_t* index;     // (batch, rows)
    Tokens low{}, high{};  // int64 (batch, rows): the columns [low, high) that a row sees; null for those within reach
};

struct Merge {
    int64_t batch, tokens, left, removed, channels;  // left + removed = tokens
    int64_t storage;
    Tokens values;  // (batch, tokens, channels); backward: the gradient that goes out
    Tokens out;     // (batch, left, channels); backward: the gradient that comes in
    Tokens kept, source, target;  // int64: (batch, left), (batch, removed), (batch, removed)
    Tokens share;                 // float32: (batch, removed)
};

struct Layout {
    int64_t batch, tokens, removed;
    Tokens source, target;  // int64 (batch, removed)
    int64_t* kept;          // (batch, tokens - removed)
    int64_t* place;         // (batch, tokens)
};

struct Pairs {
    int64_t batch, tokens, protected_count, removed, width;
    int64_t storage, distance, nth, reach;
    int64_t guard;             // of neighbour_pairs alone: rows on each side of the first protected one that stay
    Tokens features;           // (batch, tokens, width)
    Tokens protected_at;       // int64 (batch, protected_count)
    int64_t *source, *target;  // (batch, removed)
    int64_t* ranked;           // (batch, candidates)
    int64_t* targets;          // (batch, targets)
};

// A whole reduction by merging: pairs, layout, and every field of the tokens moved. All tensors are contiguous.
struct Merging {
    int64_t batch, tokens, protected_count, removed, width, channels;
    int64_t features_storage, storage;
    int64_t pairing;
    int64_t distance, nth, reach;  // within reach
    int64_t guard;                 // beside: rows on each side of the first protected one that stay
    void* features;          // (batch, tokens, width), in the first storage: what rows are compared by
    void* x;                 // (batch, tokens, channels), in the second
    float* residual;         // (batch, tokens, channels) or null
    const float* size;       // (batch, tokens) or null where all are 1
    int64_t* protected_at;       // (batch, protected_count)
    void* x_left;            // the same of the rows that stay
    float* residual_left;
    float* size_left;
    int64_t* protected_left_at;
    int64_t* kept;            // (batch, left)
    int64_t *source, *place;  // (batch, removed), (batch, tokens)
    int64_t* target;          // (batch, removed), among the rows that stay
};

// Embedding: images cut into patches, multiplied by a packed weight (dim, channels * tubelet * high * wide), and placed
// among the learned tokens. Everything is contiguous.
struct Embedding {
    int64_t batch, channels, frames, height, width;  // of the images
    int64_t tubelet, high, wide;                     // of a patch, which divide theirs
    int64_t tokens;                                  // per image
    const float* images;      // (batch, channels, frames, height, width)
    const int64_t* patch_at;  // (tokens,): each place's patch, or -1 where the token is learned
    const float* table;       // (tokens, dim): what is added to a patch, or a learned token
    float* out;               // (batch, tokens, dim)
};

// Classifier: one token of each image, added to its stream, normalised and multiplied by a packed weight (classes, dim).
struct Classification {
    int64_t batch, tokens, x_storage;
    double eps;
    void* x;                   // (batch, tokens, dim), contiguous
    float* residual;           // the same, or null
    Tokens token_at;           // int64 (batch, 1)
    const float* norm_weight;  // (dim,)
    const float* bias;         // (classes,) or null
    void* out;                 // (batch, classes), in the weight's storage
};

// A whole frozen model, from images to logits, made of what `rmeeto_linear_pack` and `rmeeto_block_pack` return. Before a
// block the closest rows are merged, see Merging, compared by the output of the block before.
struct Network {
    int64_t depth, dim, protected_count;
    int64_t storage;                // of what blocks give
    int64_t pairing, distance, nth, reach, guard;
    int64_t cache;                  // bytes that a thread keeps near
    const void* embedder;
    void* const* blocks;            // (depth,)
    const void* classifier;
    const int64_t* removed;         // (depth,): rows that are merged before each, none before the first
    const int64_t* protected_at;    // (protected_count,): the places of rows that no reduction touches, and at their
                                    // head the one that is classified; the same in every image
    double* reduction_seconds;      // what all reductions took; null if they are not timed
    int64_t* source_map;            // (batch, tokens): the last row that each of the first has come into; or null
    Embedding embedding;            // all but where it goes
    Classification classification;  // all but what is classified
};

// What a frozen model was made from. First types of Python's objects, entries of its dictionaries, and how many others have:
struct WatchedObjects {
    int64_t typed;
    void* const* typed_at;  // (typed,) objects
    void* const* types;     // (typed,)
    int64_t type_offset;    // bytes from an object's beginning to the address of its type
    int64_t entries;
    void* const* dictionaries;  // (entries,)
    void* const* names;         // (entries,)
    void* const* values;        // (entries,)
    int64_t counted;
    void* const* counted_at;  // (counted,) dictionaries
    const int64_t* counts;    // (counted,)
    void* (*item)(void* dictionary, void* name);  // PyDict_GetItemWithError
    int64_t (*count)(void* dictionary);           // PyDict_Size
};

// and tensors of PyTorch.
struct WatchedTensors {
    int64_t tensors;
    void* const* handles;     // (tensors,): an at::Tensor is one pointer
    const int64_t* versions;  // (tensors,): how often each was changed in place
    void* const* data;        // (tensors,)
    const int64_t* bytes;     // (tensors,)
    uint64_t* samples;        // (tensors,): what rmeeto_sample found
    int64_t (*version)(void* const* handle);      // at::TensorBase::_version
    int (*data_at)(void* const* handle, void**);  // aoti_torch_get_data_ptr
};

enum Sameness : int { SAME_OBJECTS = 1, SAME_TENSORS = 2 };
}
