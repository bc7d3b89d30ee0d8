#include "tensor_file.h"

#include <algorithm>

#include "json.h"
#include "refusal.h"

namespace rmeeto {
namespace {

constexpr uint64_t LENGTH_BYTES = 8, MOST_HEADER_BYTES = 16 << 20;
constexpr int64_t MOST_IN_A_DIMENSION = int64_t{1} << 40, MOST_BYTES = int64_t{1} << 50;
constexpr size_t MOST_DIMENSIONS = 4;

int64_t bytes_of(Storage storage) { return storage == BFLOAT16 ? 2 : 4; }

std::string as_text(const std::vector<int64_t>& shape) {
    std::string text = "(";
    for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    return text + ")";
}

}  // namespace

rmeeto_status TensorFile::open(rmeeto_error* error) {
    unsigned char length_bytes[LENGTH_BYTES];
    if (source_.size() < LENGTH_BYTES)
        return refuse(error, RMEETO_DAMAGED, "not a model file: it is shorter than 8 bytes");
    if (!source_.read(0, LENGTH_BYTES, length_bytes))
        return refuse(error, RMEETO_CANNOT_READ, "the system does not give the file's first bytes");
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | length_bytes[i];
    if (length > source_.size() - LENGTH_BYTES || length > MOST_HEADER_BYTES)
        return refuse(error, RMEETO_DAMAGED, "not a model file, or a truncated one: a header of %llu bytes, a file of %llu",
                      static_cast<unsigned long long>(length), static_cast<unsigned long long>(source_.size()));
    std::string header(length, ' ');
    if (!source_.read(LENGTH_BYTES, length, header.data()))
        return refuse(error, RMEETO_CANNOT_READ, "the system does not give the file's header");
    if (header.empty() || header[0] != '{')
        return refuse(error, RMEETO_DAMAGED, "not a model file: its header is no JSON object");
    if (const rmeeto_status status = read_header(header, error)) return status;
    return check_places(LENGTH_BYTES + length, error);
}

rmeeto_status TensorFile::read_header(const std::string& header, rmeeto_error* error) {
    JsonReader json(header);
    const int64_t data_begin = static_cast<int64_t>(LENGTH_BYTES + header.size());
    const auto offset = [&] { return static_cast<uint64_t>(data_begin + json.whole(0, MOST_BYTES)); };
    const auto read_tensor = [&](Tensor& tensor) {
        int members = 0;
        json.object([&](const std::string& member) {
            if (member == "dtype") {
                const std::string dtype = json.text();
                if (dtype != "F32" && dtype != "BF16") json.fail("a tensor that is neither F32 nor BF16");
                tensor.storage = dtype == "BF16" ? BFLOAT16 : FLOAT32;
            } else if (member == "shape") {
                json.list([&] {
                    tensor.shape.push_back(json.whole(0, MOST_IN_A_DIMENSION));
                    if (tensor.shape.size() > MOST_DIMENSIONS) json.fail("a tensor of more than 4 dimensions");
                });
            } else if (member == "data_offsets") {
                int count = 0;
                json.list([&] {
                    (count == 0 ? tensor.begin : tensor.end) = offset();
                    if (++count > 2) json.fail("a tensor with more than two offsets");
                });
                if (count != 2) json.fail("a tensor without two offsets");
            } else {
                return json.fail("a tensor with something else than dtype, shape and data_offsets");
            }
            members++;
        });
        if (members != 3) json.fail("a tensor without dtype, shape or data_offsets");
    };
    json.object([&](const std::string& name) {
        if (name != "__metadata__") return read_tensor(tensors_[name]);
        json.object([&](const std::string& key) {
            std::string value = json.text();
            if (key == "rmeeto") description_ = std::move(value);
        });
    });
    json.end();
    if (!json.failed()) return RMEETO_OK;
    return refuse(error, RMEETO_DAMAGED, "a damaged header: %s, at its byte %llu", json.why(),
                  static_cast<unsigned long long>(json.position()));
}

rmeeto_status TensorFile::check_places(uint64_t first, rmeeto_error* error) const {
    std::vector<const std::pair<const std::string, Tensor>*> ordered;
    for (const auto& entry : tensors_) ordered.push_back(&entry);
    std::sort(ordered.begin(), ordered.end(), [](const auto* one, const auto* other) {
        return one->second.begin != other->second.begin ? one->second.begin < other->second.begin
                                                        : one->second.end < other->second.end;
    });
    uint64_t at = first;
    for (const auto* entry : ordered) {
        const auto& [name, tensor] = *entry;
        int64_t bytes = bytes_of(tensor.storage);
        for (const int64_t size : tensor.shape) {
            if (size && bytes > MOST_BYTES / size)
                return refuse(error, RMEETO_DAMAGED, "tensor %s has the impossible shape %s", quoted(name).c_str(),
                              as_text(tensor.shape).c_str());
            bytes *= size;
        }
        if (tensor.begin != at || tensor.end < at || tensor.end - at != static_cast<uint64_t>(bytes))
            return refuse(error, RMEETO_DAMAGED, "tensor %s of shape %s does not lie where it should",
                          quoted(name).c_str(), as_text(tensor.shape).c_str());
        at = tensor.end;
    }
    if (at == source_.size()) return RMEETO_OK;
    return refuse(error, RMEETO_DAMAGED, "%s: its tensors end at byte %llu, the file at %llu",
                  at > source_.size() ? "a truncated file" : "a file with something behind its end",
                  static_cast<unsigned long long>(at), static_cast<unsigned long long>(source_.size()));
}

const TensorFile::Tensor* TensorFile::find(const std::string& name, Storage storage, const std::vector<int64_t>& shape,
                                           rmeeto_error* error) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
        refuse(error, RMEETO_DAMAGED, "there is no tensor %s", quoted(name).c_str());
        return nullptr;
    }
    const Tensor& tensor = found->second;
    if (tensor.storage == storage && tensor.shape == shape) return &tensor;
    refuse(error, RMEETO_DAMAGED, "tensor %s is %s %s where %s %s belongs", quoted(name).c_str(),
                      tensor.storage == BFLOAT16 ? "BF16" : "F32", as_text(tensor.shape).c_str(),
                      storage == BFLOAT16 ? "BF16" : "F32", as_text(shape).c_str());
    return nullptr;
}

rmeeto_status TensorFile::check_count(size_t count, rmeeto_error* error) const {
    if (tensors_.size() == count) return RMEETO_OK;
    return refuse(error, RMEETO_DAMAGED, "%llu tensors where %llu belong",
                  static_cast<unsigned long long>(tensors_.size()), static_cast<unsigned long long>(count));
}

}  // namespace rmeeto
