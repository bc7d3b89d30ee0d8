// Opens changed copies of model files, runs those that open, and counts what came of them.
//
//     fuzz COUNT SEED FILE...
//
// Built with -fsanitize=address,undefined (benchmarks/fuzz_native.py does that), it ends at the first fault.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "rmeeto.h"

namespace {

using Bytes = std::string;

struct Random {
    uint64_t state;
    uint64_t next() {  // xorshift64*, Vigna 2016
        state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
        return state * 2685821657736338717u;
    }
    size_t below(size_t count) { return count ? static_cast<size_t>(next() % count) : 0; }
    bool one_in(size_t count) { return below(count) == 0; }
};

const char* const NUMBERS[] = {"0", "1", "2", "-1", "3", "16", "17", "255", "65536", "65537", "1048576", "2147483647", "2147483648",
                               "4294967295", "4294967296", "9007199254740993", "9223372036854775807", "9223372036854775808",
                               "1e308", "1e999", "-0", "0.5", "1e-400", "null", "true", "[]", "{}", "\\\"\\\""};
const char* const PIECES[] = {"{", "}", "[", "]", ",", ":", "\"", "\\\"", "\\", "\\\\u0000", "\\\\ud800", "null", "e", "-", ".",
                              "\xff", "\xc3\xa9", "\xed\xa0\x80", "F32", "BF16", "shape", "removed", "version"};

uint64_t header_length(const Bytes& file) {
    uint64_t length = 0;
    if (file.size() >= 8) std::memcpy(&length, file.data(), 8);  // little-endian machines only
    return length;
}

void set_header_length(Bytes& file, uint64_t length) { std::memcpy(file.data(), &length, 8); }

// Replaces a part of the header, and says so in its length.
void replace(Bytes& file, size_t at, size_t count, const Bytes& by) {
    const uint64_t length = header_length(file);
    file.replace(at, count, by);
    set_header_length(file, length - count + by.size());
}

void change_number(Bytes& file, Random& random) {
    const size_t end = 8 + static_cast<size_t>(header_length(file));
    const size_t from = 8 + random.below(end - 8);
    const auto is_digit = [&](size_t i) { return file[i] >= '0' && file[i] <= '9'; };
    for (size_t i = from; i < end; i++)
        if (is_digit(i)) {
            size_t first = i, last = i;
            while (first > 8 && is_digit(first - 1)) first--;
            while (last < end && is_digit(last)) last++;
            const Bytes by = random.one_in(2) ? NUMBERS[random.below(std::size(NUMBERS))]
                                              : std::to_string(std::strtoull(file.c_str() + first, nullptr, 10) + random.below(5) - 2);
            return replace(file, first, last - first, by);
        }
}

void change_header(Bytes& file, Random& random) {
    const size_t length = static_cast<size_t>(header_length(file)), at = 8 + random.below(length);
    switch (random.below(5)) {
        case 0: return replace(file, at, 0, PIECES[random.below(std::size(PIECES))]);
        case 1: return replace(file, at, random.below(length + 8 - at) % 64, "");
        case 2: {  // a piece from somewhere else
            const size_t from = 8 + random.below(length);
            return replace(file, at, 0, file.substr(from, random.below(length + 8 - from) % 128));
        }
        default: return change_number(file, random);
    }
}

void change_weights(Bytes& file, Random& random) {
    const float odd[] = {0, std::nanf(""), INFINITY, -INFINITY, 3e38f, -3e38f, 1e-40f, -1, 1e10f};
    const size_t begin = 8 + static_cast<size_t>(header_length(file)), numbers = (file.size() - begin) / 4;
    if (file.size() <= begin || !numbers) return;
    const size_t first = random.below(numbers), count = random.one_in(4) ? numbers - first : random.below(64) % (numbers - first);
    const float value = odd[random.below(std::size(odd))];
    for (size_t i = first; i < first + count; i++) std::memcpy(&file[begin + 4 * i], &value, 4);
}

void change(Bytes& file, Random& random) {
    const bool has_header = file.size() > 9 && header_length(file) > 0 && header_length(file) <= file.size() - 8;
    switch (has_header ? random.below(8) : random.below(3)) {
        case 0:
            for (size_t i = 1 + random.below(8); i > 0 && !file.empty(); i--)
                file[random.below(file.size())] = static_cast<char>(random.next());
            return;
        case 1: return file.resize(random.below(file.size() + 1));
        case 2: {
            uint64_t length = random.one_in(2) ? random.next() >> random.below(64) : header_length(file) + random.below(64) - 32;
            if (file.size() >= 8) set_header_length(file, length);
            return;
        }
        case 3: return change_weights(file, random);
        default: return change_header(file, random);
    }
}

// What the library promises of a model that opened.
void run(const rmeeto_model* model, Random& random) {
    const rmeeto_info& info = *rmeeto_describe(model);
    if (info.image_size > 1 << 20 || info.tokens > 1 << 14) return;  // only slow
    const int64_t batch = 1 + static_cast<int64_t>(random.below(3));
    std::vector<float> images(static_cast<size_t>(batch * info.image_size)), logits(static_cast<size_t>(batch * info.classes));
    const bool is_flat = random.one_in(2);  // where every pair of tokens is as close as the next
    for (float& value : images) value = is_flat ? 0.5f : static_cast<float>(random.below(1000)) / 500 - 1;
    std::vector<int64_t> map(static_cast<size_t>(batch * info.tokens), -1), removed(static_cast<size_t>(info.depth));
    for (int64_t& count : removed) count = static_cast<int64_t>(random.below(6)) - 1;
    rmeeto_options options{};
    options.threads = 1 + static_cast<int>(random.below(3));
    if (random.one_in(3)) options.removed = removed.data();
    rmeeto_error error;
    const rmeeto_status status = rmeeto_run(model, images.data(), batch, &options, logits.data(), map.data(), &error);
    if (status == RMEETO_OK)
        for (const int64_t at : map)
            if (at < 0 || at >= info.tokens) std::abort();
    const int64_t height = 1 + static_cast<int64_t>(random.below(40)), width = 1 + static_cast<int64_t>(random.below(40));
    const std::vector<uint8_t> pixels(static_cast<size_t>(height * width * info.channels), 77);
    rmeeto_prepare(model, pixels.data(), height, width, 0, images.data(), &error);
    size_t letters = std::strlen(info.description) + std::strlen(info.name) + std::strlen(info.reduction);
    for (int64_t i = 0; info.class_names && i < info.classes; i++) letters += std::strlen(info.class_names[i]);
    if (letters > std::size_t{1} << 26) std::abort();
}

}  // namespace

int main(int count, char** words) {
    if (count < 4) return std::fprintf(stderr, "usage: fuzz COUNT SEED FILE...\n"), 2;
    std::vector<Bytes> files;
    for (int i = 3; i < count; i++) {
        std::ifstream file(words[i], std::ios::binary);
        files.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
        if (files.back().size() < 16) return std::fprintf(stderr, "no file: %s\n", words[i]), 2;
    }
    const long long wanted = std::atoll(words[1]);
    Random random{std::strtoull(words[2], nullptr, 10) * 2 + 1};
    long long found[6] = {};
    for (long long i = 0; i < wanted; i++) {
        Bytes file = files[random.below(files.size())];
        for (size_t changes = 1 + random.below(4); changes > 0; changes--) change(file, random);
        rmeeto_model* model = nullptr;
        rmeeto_error error;
        std::memset(error.text, 'x', sizeof error.text);
        const std::vector<char> exact(file.begin(), file.end());  // with nothing behind it, so that the sanitizer sees its end
        const rmeeto_status status = rmeeto_open_memory(exact.data(), exact.size(), &model, &error);
        found[status]++;
        if ((status == RMEETO_OK) != (model != nullptr)) std::abort();
        if (status == RMEETO_OK)
            run(model, random);
        else if (!std::memchr(error.text, '\0', sizeof error.text) || !error.text[0])
            std::abort();
        rmeeto_close(model);
    }
    std::printf("%lld files: %lld opened, %lld damaged, %lld unsupported, %lld without memory, 0 crashes\n", wanted, found[RMEETO_OK],
                found[RMEETO_DAMAGED], found[RMEETO_UNSUPPORTED], found[RMEETO_NO_MEMORY]);
    return found[RMEETO_INVALID] || found[RMEETO_CANNOT_READ];
}
