#include "memory.h"

#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#endif

namespace rmeeto {
namespace {

constexpr size_t LARGE_PAGE = 1 << 21;

std::align_val_t alignment(Pages pages) { return std::align_val_t{pages == Pages::LARGE ? LARGE_PAGE : 64}; }

void* allocate(size_t bytes, Pages pages = Pages::ORDINARY) {
    void* const memory = ::operator new(bytes, alignment(pages), std::nothrow);
#if defined(MADV_HUGEPAGE)
    // The rest behind the last whole page stays in ordinary ones, as all of it does where there are no others.
    if (memory && pages == Pages::LARGE) madvise(memory, bytes / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE);
#endif
    return memory;
}

void release(void* memory, Pages pages = Pages::ORDINARY) { ::operator delete(memory, alignment(pages)); }

class Scratch {
public:
    void* reserve(size_t bytes) {
        if (bytes > size_) {
            release(data_);
            data_ = allocate(bytes);
            size_ = data_ ? bytes : 0;
        }
        return data_;
    }
    ~Scratch() { release(data_); }

private:
    void* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace

Buffer::Buffer(size_t bytes, Pages pages) : pages_(pages), data_(allocate(bytes, pages)) {}
Buffer::~Buffer() { release(data_, pages_); }

void* reserve_scratch(size_t bytes) {
    thread_local Scratch scratch;
    return scratch.reserve(bytes);
}

}  // namespace rmeeto
