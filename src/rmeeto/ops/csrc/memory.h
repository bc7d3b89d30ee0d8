// Memory on a 64-byte boundary.
#pragma once

#include <cstddef>

namespace rmeeto {

// Pages of megabytes spare whoever reads large memory once, from end to end, the look-up of a page every 4 KB.
enum class Pages { ORDINARY, LARGE };

// Memory that goes when the scope does; null if there is none.
class Buffer {
public:
    explicit Buffer(size_t bytes, Pages pages = Pages::ORDINARY);
    ~Buffer();
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    void* data() const { return data_; }

private:
    Pages pages_;
    void* data_;
};

// At least so many bytes that this thread alone uses, until it asks again; null if there are none. A thread keeps them
// between calls: fresh pages would cost more than a small scan.
void* reserve_scratch(size_t bytes);

}  // namespace rmeeto
