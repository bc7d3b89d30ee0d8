// Models in files of the system.
#include <cstdio>
#include <cstring>

#include <cerrno>

#include "refusal.h"
#include "source.h"

namespace rmeeto {
namespace {

// Reads what is asked for when it is asked for: a file that becomes shorter meanwhile ends in an error.
class FileSource final : public ByteSource {
public:
    explicit FileSource(const char* path) : file_(std::fopen(path, "rb")) {
        if (!file_ || is_directory() || std::fseek(file_, 0, SEEK_END)) return;
        const long size = std::ftell(file_);
        if (size >= 0) size_ = static_cast<uint64_t>(size), is_open_ = true;
    }
    ~FileSource() {
        if (file_) std::fclose(file_);
    }
    FileSource(const FileSource&) = delete;
    FileSource& operator=(const FileSource&) = delete;

    bool is_open() const { return is_open_; }
    uint64_t size() const override { return size_; }
    bool read(uint64_t offset, size_t bytes, void* to) const override {
        return !std::fseek(file_, static_cast<long>(offset), SEEK_SET) && std::fread(to, 1, bytes, file_) == bytes;
    }

private:
    // Which some systems open, and then do not read.
    bool is_directory() const { return std::fgetc(file_) == EOF && std::ferror(file_); }

    std::FILE* file_;
    uint64_t size_ = 0;
    bool is_open_ = false;
};

}  // namespace
}  // namespace rmeeto

extern "C" rmeeto_status rmeeto_open(const char* path, rmeeto_model** model, rmeeto_error* error) {
    if (!path || !model) return rmeeto::refuse(error, RMEETO_INVALID, "rmeeto_open: a pointer is null");
    errno = 0;
    const rmeeto::FileSource file(path);
    if (!file.is_open())
        return rmeeto::refuse(error, RMEETO_CANNOT_READ, "the file cannot be read: %s",
                              errno ? std::strerror(errno) : "it has no length");
    return rmeeto::open_model(file, model, error);
}
