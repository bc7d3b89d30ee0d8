// The functions of rmeeto.h, but for the one that reads a file of the system.
#include <memory>
#include <new>

#include "description.h"
#include "packed_model.h"
#include "prepare.h"
#include "refusal.h"

struct rmeeto_model {
    std::string json;
    rmeeto::Description description;
    rmeeto::PackedModel packed;
    std::vector<const char*> class_names;
    rmeeto_info info;
};

namespace rmeeto {
namespace {

constexpr int MOST_THREADS = 256;
constexpr int64_t MOST_IMAGES = 1 << 20;

// No exception of the standard library leaves this one.
template <class Function>
rmeeto_status without_exceptions(rmeeto_error* error, Function function) {
#if defined(__cpp_exceptions)
    try {
        return function();
    } catch (const std::bad_alloc&) {
        return refuse(error, RMEETO_NO_MEMORY, "no memory left");
    } catch (const std::exception& exception) {
        return refuse(error, RMEETO_NO_MEMORY, "no memory left: %s", exception.what());
    }
#else
    return function();
#endif
}

void describe(rmeeto_model& model) {
    const Description& of = model.description;
    for (const std::string& name : of.class_names) model.class_names.push_back(name.c_str());
    rmeeto_info& info = model.info;
    info.name = of.name.c_str(), info.reduction = of.reduction.c_str();
    info.precision = of.precision == BFLOAT16 ? "bfloat16" : "float32";
    info.kernels = rmeeto_instruction_set(), info.description = model.json.c_str();
    info.channels = of.channels, info.frames = of.frames, info.height = of.height, info.width = of.width;
    info.image_size = of.image_size(), info.classes = of.classes;
    info.class_names = of.class_names.empty() ? nullptr : model.class_names.data();
    info.depth = of.depth, info.tokens = info.tokens_left = of.tokens();
    for (const int64_t removed : of.removed) info.tokens_left -= removed;
    info.removed = of.removed.data();
    info.protected_count = static_cast<int64_t>(of.protected_at.size()), info.protected_at = of.protected_at.data();
}

}  // namespace

rmeeto_status open_model(const ByteSource& source, rmeeto_model** to, rmeeto_error* error) {
    return without_exceptions(error, [&] {
        TensorFile file(source);
        if (const rmeeto_status status = file.open(error)) return status;
        auto model = std::make_unique<rmeeto_model>();
        model->json = file.description();
        if (const rmeeto_status status = read_description(model->json, model->description, error)) return status;
        if (const rmeeto_status status = model->packed.load(file, model->description, error)) return status;
        describe(*model);
        *to = model.release();
        return RMEETO_OK;
    });
}

}  // namespace rmeeto

using rmeeto::refuse;

extern "C" {

const char* rmeeto_version(void) { return RMEETO_VERSION; }

rmeeto_status rmeeto_open_memory(const void* data, size_t size, rmeeto_model** model, rmeeto_error* error) {
    if (!model || (!data && size)) return refuse(error, RMEETO_INVALID, "rmeeto_open_memory: a pointer is null");
    return rmeeto::open_model(rmeeto::MemorySource(data, size), model, error);
}

const rmeeto_info* rmeeto_describe(const rmeeto_model* model) { return model ? &model->info : nullptr; }

void rmeeto_close(rmeeto_model* model) { delete model; }

rmeeto_status rmeeto_run(const rmeeto_model* model, const float* images, int64_t batch, const rmeeto_options* options,
                         float* logits, int64_t* merge_map, rmeeto_error* error) {
    if (!model || !images || !logits) return refuse(error, RMEETO_INVALID, "rmeeto_run: a pointer is null");
    if (batch < 1 || batch > rmeeto::MOST_IMAGES)
        return refuse(error, RMEETO_INVALID, "rmeeto_run: %lld images, 1 to %lld are possible",
                      static_cast<long long>(batch), static_cast<long long>(rmeeto::MOST_IMAGES));
    const int threads = options && options->threads ? options->threads : 1;
    if (threads < 0 || threads > rmeeto::MOST_THREADS)
        return refuse(error, RMEETO_INVALID, "rmeeto_run: %d threads, 1 to %d are possible", threads, rmeeto::MOST_THREADS);
    const int64_t* removed = model->description.removed.data();
    if (options && options->removed) {
        removed = options->removed;
        if (const rmeeto_status status = check_removed(model->description, removed, RMEETO_INVALID, error)) return status;
    }
    return rmeeto::without_exceptions(error, [&] {
        return model->packed.run({images, batch, threads, removed, logits, merge_map}, error);
    });
}

rmeeto_status rmeeto_prepare(const rmeeto_model* model, const uint8_t* pixels, int64_t height, int64_t width,
                             int64_t frame, float* image, rmeeto_error* error) {
    if (!model || !pixels || !image) return refuse(error, RMEETO_INVALID, "rmeeto_prepare: a pointer is null");
    if (frame < 0 || frame >= model->info.frames)
        return refuse(error, RMEETO_INVALID, "rmeeto_prepare: frame %lld of %lld", static_cast<long long>(frame),
                      static_cast<long long>(model->info.frames));
    return rmeeto::without_exceptions(error, [&] {
        return rmeeto::prepare(model->description, {pixels, height, width}, frame, image, error);
    });
}

}  // extern "C"
