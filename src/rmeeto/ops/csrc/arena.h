// One piece of memory cut into arrays.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rmeeto {

// Hands out arrays one after the other, each on a line of its own: first from null, to count their bytes, then from
// where the memory is.
class Arena {
public:
    explicit Arena(void* base) : base_(static_cast<char*>(base)) {}
    template <class T>
    T* take(int64_t count) {
        const size_t before = taken_;
        taken_ += (sizeof(T) * (size_t)count + 63) / 64 * 64;
        return base_ ? reinterpret_cast<T*>(base_ + before) : nullptr;
    }
    size_t taken() const { return taken_; }

private:
    char* base_;
    size_t taken_ = 0;
};

}  // namespace rmeeto
