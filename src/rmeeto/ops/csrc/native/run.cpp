// rmeeto-run: what a model sees in pictures.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "picture.h"
#include "rmeeto.h"

namespace {

constexpr char USAGE[] =
    "usage: rmeeto-run [options] MODEL IMAGE...\n"
    "  MODEL      a file that rmeeto.native.save or rmeeto export --format native has written\n"
    "  IMAGE      PPM, PGM%s; a model of clips takes a clip's frames, one file each\n"
    "  --top N    show the N likeliest classes (5)\n"
    "  --threads N  compute with N threads (one for each core)\n"
    "  --logits   print all logits of each image on a line, exactly, and nothing else\n"
    "  --map      print the merge map of each image on a line: which of the last tokens each of the first is a part of\n"
    "  --info     describe the model and read no image\n";

struct Options {
    long top = 5, threads = 0;
    bool logits = false, map = false, info = false;
    std::vector<const char*> files;
};

int fail(const std::string& what) {
    std::fprintf(stderr, "rmeeto-run: %s\n", what.c_str());
    return 1;
}

void print_usage(std::FILE* to) {
    std::string formats;
#if defined(RMEETO_HAS_JPEG)
    formats += ", JPEG";
#endif
#if defined(RMEETO_HAS_PNG)
    formats += ", PNG";
#endif
    std::fprintf(to, USAGE, formats.c_str());
}

bool number(const char* text, long& to) {
    char* end = nullptr;
    to = text ? std::strtol(text, &end, 10) : 0;
    return text && *text && !*end && to > 0 && to <= 100000;
}

// Returns what is wrong, or an empty text.
std::string parse(int count, char** words, Options& options) {
    for (int i = 1; i < count; i++) {
        const std::string word = words[i];
        if (word == "--logits") options.logits = true;
        else if (word == "--map") options.map = true;
        else if (word == "--info") options.info = true;
        else if (word == "--top" || word == "--threads") {
            if (!number(i + 1 < count ? words[i + 1] : nullptr, word == "--top" ? options.top : options.threads))
                return word + " takes a whole number from 1 to 100000";
            i++;
        } else if (word.size() > 1 && word[0] == '-') return word + " is no option";
        else options.files.push_back(words[i]);
    }
    if (options.files.size() >= (options.info ? 1u : 2u)) return "";
    return options.files.empty() ? "no model is given" : "no image is given";
}

// The whole content of a file: `to`. Returns why there is none, or an empty text.
std::string read_bytes(const char* path, std::vector<uint8_t>& to) {
    constexpr size_t AT_ONCE = 1 << 20, MOST = 1 << 30;  // a device may never end
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "rb"), std::fclose);
    for (size_t count = AT_ONCE; file && count == AT_ONCE;) {
        const size_t size = to.size();
        if (size >= MOST) return "the file is larger than a picture may be (1 GiB)";
        to.resize(size + AT_ONCE);
        count = std::fread(to.data() + size, 1, AT_ONCE, file.get());
        to.resize(size + count);
    }
    if (file && !std::ferror(file.get())) return "";
    return std::string("the file cannot be read: ") + std::strerror(errno);
}

std::string read(const char* path, rmeeto::DecodedPicture& to) {
    std::vector<uint8_t> bytes;
    const std::string why = read_bytes(path, bytes);
    return why.empty() ? rmeeto::decode(bytes, to) : why;
}

void print_info(const rmeeto_info& info) {
    std::printf("%s: %s\n", *info.name ? info.name : "a model", *info.reduction ? info.reduction : "no reduction");
    std::printf("input     %lld channels, %lld frames, %lld x %lld pixels\n", static_cast<long long>(info.channels),
                static_cast<long long>(info.frames), static_cast<long long>(info.height), static_cast<long long>(info.width));
    std::printf("classes   %lld\nblocks    %lld\ntokens    %lld to %lld\n", static_cast<long long>(info.classes),
                static_cast<long long>(info.depth), static_cast<long long>(info.tokens),
                static_cast<long long>(info.tokens_left));
    std::printf("products  %s, by kernels for %s\n", info.precision, info.kernels);
}

void print_best(const rmeeto_info& info, const char* path, const std::vector<float>& logits, long top) {
    std::vector<size_t> order(logits.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = i;
    const size_t shown = std::min(static_cast<size_t>(top), order.size());
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
                      [&](size_t a, size_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
    double total = 0;
    for (const float logit : logits) total += std::exp(static_cast<double>(logit - logits[order[0]]));
    std::printf("%s\n", path);
    for (size_t i = 0; i < shown; i++) {
        const size_t label = order[i];
        const double share = std::exp(static_cast<double>(logits[label] - logits[order[0]])) / total;
        if (info.class_names)
            std::printf("  %5.1f %%  %s\n", 100 * share, info.class_names[label]);
        else
            std::printf("  %5.1f %%  class %zu\n", 100 * share, label);
    }
}

int run(const rmeeto_model* model, const Options& options) {
    const rmeeto_info& info = *rmeeto_describe(model);
    const size_t frames = static_cast<size_t>(info.frames), given = options.files.size() - 1;
    if (info.channels != 1 && info.channels != 3) return fail("the model takes neither grey nor coloured pictures");
    if (given % frames)
        return fail("the model takes clips of " + std::to_string(frames) + " frames, not " + std::to_string(given) + " files");
    std::vector<float> image(static_cast<size_t>(info.image_size)), logits(static_cast<size_t>(info.classes));
    std::vector<int64_t> map(static_cast<size_t>(info.tokens));
    rmeeto_options how{};
    const unsigned cores = std::min(64u, std::max(1u, std::thread::hardware_concurrency()));
    how.threads = static_cast<int>(options.threads ? options.threads : cores);
    rmeeto_error error;
    for (size_t first = 1; first <= given; first += frames) {
        for (size_t frame = 0; frame < frames; frame++) {
            const char* const path = options.files[first + frame];
            rmeeto::DecodedPicture picture;
            const std::string why = read(path, picture);
            if (!why.empty()) return fail(std::string(path) + ": " + why);
            rmeeto::convert(picture, info.channels);
            if (rmeeto_prepare(model, picture.pixels.data(), picture.height, picture.width, static_cast<int64_t>(frame),
                               image.data(), &error))
                return fail(std::string(path) + ": " + error.text);
        }
        if (rmeeto_run(model, image.data(), 1, &how, logits.data(), options.map ? map.data() : nullptr, &error))
            return fail(error.text);
        if (options.logits)  // nine digits name every float32
            for (size_t i = 0; i < logits.size(); i++)
                std::printf("%.9g%c", static_cast<double>(logits[i]), i + 1 < logits.size() ? ' ' : '\n');
        else
            print_best(info, options.files[first], logits, options.top);
        if (options.map)
            for (size_t i = 0; i < map.size(); i++)
                std::printf("%lld%c", static_cast<long long>(map[i]), i + 1 < map.size() ? ' ' : '\n');
        if (std::ferror(stdout)) break;
    }
    return 0;
}

// The status of the program, or a failure if its output is not where it should be, as on a full disk.
int finish(int status) {
    errno = 0;
    if (!std::fflush(stdout) && !std::ferror(stdout)) return status;
    return fail(std::string("the output cannot be written") + (errno ? std::string(": ") + std::strerror(errno) : ""));
}

}  // namespace

int main(int count, char** words) try {
    if (count == 2 && !std::strcmp(words[1], "--help")) return print_usage(stdout), finish(0);
    if (count == 2 && !std::strcmp(words[1], "--version")) return std::printf("%s\n", rmeeto_version()), finish(0);
    Options options;
    if (const std::string why = parse(count, words, options); !why.empty()) return fail(why), print_usage(stderr), 2;
    rmeeto_model* model = nullptr;
    rmeeto_error error;
    if (rmeeto_open(options.files[0], &model, &error)) return fail(std::string(options.files[0]) + ": " + error.text);
    int status = 0;
    if (options.info)
        print_info(*rmeeto_describe(model));
    else
        status = run(model, options);
    rmeeto_close(model);
    return finish(status);
} catch (const std::bad_alloc&) {
    return fail("no memory left");
}
