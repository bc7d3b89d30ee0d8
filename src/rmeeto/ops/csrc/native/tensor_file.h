// A safetensors file: eight bytes that say how long the header is, the header, which is JSON, and the tensors' bytes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "interface.h"
#include "source.h"

namespace rmeeto {

class TensorFile {
public:
    explicit TensorFile(const ByteSource& source) : source_(source) {}

    // Reads the header and checks that every tensor lies within the file, as long as its shape says, and that the
    // tensors fill the file without gaps or overlaps.
    rmeeto_status open(rmeeto_error* error);

    // The text that the header's metadata holds under the name "rmeeto"; empty if there is none.
    const std::string& description() const { return description_; }

    struct Tensor {
        Storage storage = FLOAT32;
        std::vector<int64_t> shape;
        uint64_t begin = 0, end = 0;  // in the file
        uint64_t bytes() const { return end - begin; }
    };

    // The tensor of this name; null, after a refusal, if there is none of this storage and shape.
    const Tensor* find(const std::string& name, Storage storage, const std::vector<int64_t>& shape,
                       rmeeto_error* error) const;

    // Copies a tensor to memory for its bytes.
    bool read(const Tensor& tensor, void* to) const { return source_.read(tensor.begin, tensor.bytes(), to); }

    // Refuses if there are other tensors than those of `count` names.
    rmeeto_status check_count(size_t count, rmeeto_error* error) const;

private:
    rmeeto_status read_header(const std::string& header, rmeeto_error* error);
    rmeeto_status check_places(uint64_t first, rmeeto_error* error) const;

    const ByteSource& source_;
    std::string description_;
    std::map<std::string, Tensor> tensors_;
};

}  // namespace rmeeto
