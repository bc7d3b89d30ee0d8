// Where the bytes of a model come from: memory, or a file.
#pragma once

#include <cstdint>
#include <cstring>

#include "rmeeto.h"

namespace rmeeto {

class ByteSource {
public:
    virtual uint64_t size() const = 0;
    // Copies bytes that lie within size(); false if the system does not give them.
    virtual bool read(uint64_t offset, size_t bytes, void* to) const = 0;

protected:
    ~ByteSource() = default;
};

class MemorySource final : public ByteSource {
public:
    MemorySource(const void* data, size_t size) : data_(static_cast<const char*>(data)), size_(size) {}
    uint64_t size() const override { return size_; }
    bool read(uint64_t offset, size_t bytes, void* to) const override {
        std::memcpy(to, data_ + offset, bytes);
        return true;
    }

private:
    const char* data_;
    size_t size_;
};

// What rmeeto_open and rmeeto_open_memory have in common.
rmeeto_status open_model(const ByteSource& source, rmeeto_model** model, rmeeto_error* error);

}  // namespace rmeeto
