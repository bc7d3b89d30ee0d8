#include "packed_model.h"

#include <cstring>

#include "memory.h"
#include "refusal.h"

namespace rmeeto {
namespace {

constexpr int64_t CACHE = 1 << 22;  // bytes of workspace for each thread, as Python's side has it
// Of working memory: far above what any model needs, and countable.
constexpr double MOST_WORKING_BYTES = sizeof(size_t) > 4 ? 1e12 : 1e9;

rmeeto_status no_memory(rmeeto_error* error, const char* what) {
    return refuse(error, RMEETO_NO_MEMORY, "no memory left for %s", what);
}

// Memory for tensors on their way from the file to where they are packed.
class Raw {
public:
    explicit Raw(const TensorFile& file, std::string prefix, rmeeto_error* error)
        : file_(file), prefix_(std::move(prefix)), error_(error) {}

    // Null after a refusal, and after every later one.
    const void* take(const std::string& name, Storage storage, const std::vector<int64_t>& shape) {
        if (status_) return nullptr;
        const TensorFile::Tensor* const tensor = file_.find(prefix_ + name, storage, shape, error_);
        if (!tensor) return status_ = RMEETO_DAMAGED, nullptr;
        buffers_.push_back(std::make_unique<Buffer>(static_cast<size_t>(tensor->bytes())));  // no longer than the file
        void* const data = buffers_.back()->data();
        if (!data)
            status_ = no_memory(error_, "a model's weights");
        else if (!file_.read(*tensor, data))
            status_ = refuse(error_, RMEETO_CANNOT_READ, "the system does not give all of the file");
        return status_ ? nullptr : data;
    }
    const float* floats(const std::string& name, const std::vector<int64_t>& shape) {
        return static_cast<const float*>(take(name, FLOAT32, shape));
    }
    std::vector<float> copy(const std::string& name, int64_t rows, int64_t columns) {
        const float* const data = floats(name, columns ? std::vector<int64_t>{rows, columns} : std::vector<int64_t>{rows});
        return data ? std::vector<float>(data, data + rows * (columns ? columns : 1)) : std::vector<float>();
    }
    rmeeto_status status() const { return status_; }

private:
    const TensorFile& file_;
    const std::string prefix_;
    rmeeto_error* const error_;
    std::vector<std::unique_ptr<Buffer>> buffers_;
    rmeeto_status status_ = RMEETO_OK;
};

}  // namespace

rmeeto_status PackedModel::load(const TensorFile& file, const Description& description, rmeeto_error* error) {
    of_ = &description;
    if (const rmeeto_status status = check_memory(1, error)) return status;
    if (const rmeeto_status status = load_ends(file, error)) return status;
    for (int64_t number = 0; number < of_->depth; number++)
        if (const rmeeto_status status = load_block(file, number, error)) return status;
    place_patches();
    constexpr size_t OF_ENDS = 5, OF_A_BLOCK = 17;
    return file.check_count(OF_ENDS + OF_A_BLOCK * blocks_.size(), error);
}

rmeeto_status PackedModel::load_ends(const TensorFile& file, rmeeto_error* error) {
    const Description& of = *of_;
    Raw raw(file, "", error);
    const void* const patches = raw.take("embed.patches", of.precision, {of.dim, of.patch_size()});
    table_ = raw.copy("embed.table", of.tokens(), of.dim);
    norm_weight_ = raw.copy("head.norm", of.dim, 0);
    bias_ = raw.copy("head.bias", of.classes, 0);
    const void* const head = raw.take("head.weight", of.precision, {of.classes, of.dim});
    if (raw.status()) return raw.status();
    embedder_.reset(rmeeto_linear_pack(patches, of.precision, of.dim, of.patch_size()));
    classifier_.reset(rmeeto_linear_pack(head, of.precision, of.classes, of.dim));
    return embedder_ && classifier_ ? RMEETO_OK : no_memory(error, "a model's weights");
}

rmeeto_status PackedModel::load_block(const TensorFile& file, int64_t number, rmeeto_error* error) {
    const Description& of = *of_;
    Raw raw(file, "blocks." + std::to_string(number) + ".", error);
    BlockWeights weights{};
    weights.storage = of.precision;
    weights.dim = of.dim, weights.inner = of.inner, weights.states = of.states, weights.rank = of.rank;
    weights.width = of.taps, weights.eps = of.block_eps, weights.scale = of.scale;
    weights.norm_weight = raw.floats("norm", {of.dim});
    weights.in_proj = raw.take("in_proj", of.precision, {2 * of.inner, of.dim});
    weights.out_proj = raw.take("out_proj", of.precision, {of.dim, of.inner});
    for (int way = 0; way < 2; way++) {
        BlockDirection& to = weights.directions[way];
        const std::string prefix = way ? "backward." : "forward.";
        to.conv_weight = raw.floats(prefix + "conv_weight", {of.inner, of.taps});
        to.conv_bias = raw.floats(prefix + "conv_bias", {of.inner});
        to.A = raw.floats(prefix + "A", {of.inner, of.states});
        to.skip = raw.floats(prefix + "skip", {of.inner});
        to.delta_bias = raw.floats(prefix + "delta_bias", {of.inner});
        to.x_proj = raw.take(prefix + "x_proj", of.precision, {of.rank + 2 * of.states, of.inner});
        to.dt_proj = raw.take(prefix + "dt_proj", of.precision, {of.inner, of.rank});
    }
    if (raw.status()) return raw.status();
    blocks_.emplace_back(rmeeto_block_pack(&weights));
    if (!blocks_.back()) return no_memory(error, "a model's weights");
    block_pointers_.push_back(blocks_.back().get());
    return RMEETO_OK;
}

void PackedModel::place_patches() {
    patch_at_.assign(static_cast<size_t>(of_->tokens()), 0);
    for (const int64_t place : of_->protected_at) patch_at_[static_cast<size_t>(place)] = -1;
    int64_t patch = 0;
    for (int64_t& at : patch_at_)
        if (!at) at = patch++;
}

// In floating point, which does not overflow: more than a run needs, so that what the kernels count stays countable.
rmeeto_status PackedModel::check_memory(int64_t batch, rmeeto_error* error) const {
    const Description& of = *of_;
    constexpr double NUMBERS_BESIDE = 512, ROWS_OF_PATCHES = 1024, BYTES = 4;
    const double rows = static_cast<double>(batch) * static_cast<double>(of.tokens()), dim = static_cast<double>(of.dim);
    const double numbers = rows * (8 * dim + 6 * static_cast<double>(of.inner) + 2 * static_cast<double>(of.rank) + NUMBERS_BESIDE) +
                           ROWS_OF_PATCHES * (static_cast<double>(of.patch_size()) + dim) +
                           static_cast<double>(batch) * static_cast<double>(of.image_size() + of.classes);
    if (numbers * BYTES <= MOST_WORKING_BYTES) return RMEETO_OK;
    return refuse(error, RMEETO_NO_MEMORY, "%lld images at once would need %.0f GB of working memory",
                  static_cast<long long>(batch), numbers * BYTES / 1e9);
}

Network PackedModel::network(const Run& run) const {
    const Description& of = *of_;
    Network network{};
    network.depth = of.depth, network.dim = of.dim, network.storage = of.precision;
    network.protected_count = static_cast<int64_t>(of.protected_at.size());
    network.pairing = of.pairing, network.guard = of.guard;
    network.distance = of.distance, network.nth = of.nth, network.cache = CACHE;
    network.reach = of.reach && of.reach < of.tokens() ? of.reach : of.tokens();
    network.embedder = embedder_.get(), network.classifier = classifier_.get();
    network.blocks = block_pointers_.data();
    network.removed = run.removed, network.protected_at = of.protected_at.data();
    network.source_map = run.source_map;
    Embedding& embedding = network.embedding;
    embedding.batch = run.batch, embedding.channels = of.channels, embedding.frames = of.frames;
    embedding.height = of.height, embedding.width = of.width;
    embedding.tubelet = of.tubelet, embedding.high = of.high, embedding.wide = of.wide;
    embedding.tokens = of.tokens(), embedding.images = run.images;
    embedding.patch_at = patch_at_.data(), embedding.table = table_.data();
    network.classification.eps = of.head_eps, network.classification.norm_weight = norm_weight_.data();
    network.classification.bias = bias_.data(), network.classification.out = run.logits;
    return network;
}

// Logits of bfloat16 stand in the lower half of the memory for them: the last one first, each is written where no other
// is left to be read.
static void widen(float* logits, int64_t count) {
    const char* const halves = reinterpret_cast<const char*>(logits);
    for (int64_t i = count - 1; i >= 0; i--) {
        uint16_t half;
        std::memcpy(&half, halves + 2 * i, sizeof half);
        const uint32_t bits = static_cast<uint32_t>(half) << 16;
        std::memcpy(logits + i, &bits, sizeof bits);
    }
}

rmeeto_status PackedModel::run(const Run& run, rmeeto_error* error) const {
    if (const rmeeto_status status = check_memory(run.batch, error)) return status;
    const Network network = this->network(run);
    const int outcome = rmeeto_network(&network, run.threads);
    if (outcome != DONE) return no_memory(error, "what stands between the blocks");
    if (of_->precision == BFLOAT16) widen(run.logits, run.batch * of_->classes);
    return RMEETO_OK;
}

}  // namespace rmeeto
