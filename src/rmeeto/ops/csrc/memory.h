// Memory on a 64-byte boundary.
#pragma once

#include <cstddef>

namespace rmeeto {

// Large pages: memory that is read once from end to end needs a page look-up per megabytes, not per 4 KB.
enum class Pages { ORDINARY, LARGE };

// Memory that is freed at the end of the scope; null if there is none left.
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
