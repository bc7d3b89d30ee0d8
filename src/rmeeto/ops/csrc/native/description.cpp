#include "description.h"

#include <algorithm>

#include "json.h"
#include "refusal.h"

namespace rmeeto {
namespace {

// Least and most. The most are far above every known model.
constexpr int64_t MOST_ON_A_SIDE = 65536, MOST_CHANNELS = 4096, MOST_INPUT = int64_t{1} << 28;
constexpr int64_t MOST_DEPTH = 4096, MOST_WIDTH = 65536, MOST_INNER = 1 << 20, MOST_CLASSES = 1 << 24;
constexpr int64_t MOST_TOKENS = 1 << 20, MOST_STATES = 16, LEAST_TAPS = 2, MOST_TAPS = 4;

// Reads a description member by member.
class DescriptionReader {
public:
    DescriptionReader(JsonReader& json, Description& to) : json_(json), to_(to) {}

    const std::string& unsupported() const { return unsupported_; }

    void read() {
        bool has_version = false;
        json_.object([&](const std::string& name) {
            if (name == "version") {
                has_version = true;
                return check_version(json_.whole(0, INT64_MAX));
            }
            if (!has_version) return json_.fail("a description that does not begin with its version");
            member(name);
        });
        json_.end();
    }

private:
    void member(const std::string& name) {
        if (name == "name") to_.name = json_.text();
        else if (name == "reduction") to_.reduction = json_.text();
        else if (name == "precision") precision(json_.text());
        else if (name == "input") input();
        else if (name == "patch") patch();
        else if (name == "sizes") sizes();
        else if (name == "block_eps") to_.block_eps = json_.number();
        else if (name == "head_eps") to_.head_eps = json_.number();
        else if (name == "scale") to_.scale = json_.number();
        else if (name == "protected") wholes(to_.protected_at, MOST_TOKENS, MOST_TOKENS);
        else if (name == "merge") merge();
        else if (name == "prepare") prepare();
        else if (name == "class_names") class_names();
        else json_.skip();
    }

    void check_version(int64_t version) {
        if (json_.failed() || version == FORMAT_VERSION) return;
        refuse_as_unsupported("a file of version " + std::to_string(version) + ": this library reads version " +
                              std::to_string(FORMAT_VERSION));
    }

    void refuse_as_unsupported(const std::string& what) {
        unsupported_ = what;
        json_.fail("something that this library cannot do");
    }

    void precision(const std::string& name) {
        if (json_.failed()) return;
        if (name != "float32" && name != "bfloat16") return refuse_as_unsupported("the precision " + quoted(name));
        to_.precision = name == "bfloat16" ? BFLOAT16 : FLOAT32;
    }

    // Whole numbers by their names, of an object that may have more.
    struct Size {
        const char* name;
        int64_t& to;
        int64_t least, most;
    };
    void sizes_of(std::initializer_list<Size> sizes) {
        json_.object([&](const std::string& name) {
            for (const Size& size : sizes)
                if (name == size.name) {
                    size.to = json_.whole(size.least, size.most);
                    return;
                }
            json_.skip();
        });
    }
    void input() {
        sizes_of({{"channels", to_.channels, 1, MOST_CHANNELS},
                  {"frames", to_.frames, 1, MOST_ON_A_SIDE},
                  {"height", to_.height, 1, MOST_ON_A_SIDE},
                  {"width", to_.width, 1, MOST_ON_A_SIDE}});
    }
    void patch() {
        sizes_of({{"frames", to_.tubelet, 1, MOST_ON_A_SIDE},
                  {"height", to_.high, 1, MOST_ON_A_SIDE},
                  {"width", to_.wide, 1, MOST_ON_A_SIDE}});
    }
    void sizes() {
        sizes_of({{"depth", to_.depth, 1, MOST_DEPTH},
                  {"dim", to_.dim, 1, MOST_WIDTH},
                  {"inner", to_.inner, 1, MOST_INNER},
                  {"states", to_.states, 1, MOST_STATES},
                  {"rank", to_.rank, 1, MOST_WIDTH},
                  {"taps", to_.taps, LEAST_TAPS, MOST_TAPS},
                  {"classes", to_.classes, 1, MOST_CLASSES}});
    }

    void wholes(std::vector<int64_t>& to, int64_t most, int64_t most_items) {
        to.clear();
        json_.list([&] {
            to.push_back(json_.whole(0, most));
            if (static_cast<int64_t>(to.size()) > most_items) json_.fail("a list that is too long");
        });
    }
    void numbers(std::vector<double>& to) {
        to.clear();
        json_.list([&] {
            to.push_back(json_.number());
            if (static_cast<int64_t>(to.size()) > MOST_CHANNELS) json_.fail("a list that is too long");
        });
    }

    void merge() {
        if (json_.null()) return;
        json_.object([&](const std::string& name) {
            if (name == "method") method(json_.text());
            else if (name == "distance") distance(json_.text());
            else if (name == "removed") wholes(to_.removed, MOST_TOKENS, MOST_DEPTH);
            else if (name == "nth") to_.nth = json_.whole(1, MOST_TOKENS);
            else if (name == "reach") to_.reach = json_.null() ? 0 : json_.whole(1, MOST_TOKENS);
            else if (name == "guard") to_.guard = json_.whole(0, MOST_TOKENS);
            else json_.skip();
        });
    }
    void method(const std::string& name) {
        if (json_.failed()) return;
        if (name != "pairs" && name != "neighbours") return refuse_as_unsupported("the reduction method " + quoted(name));
        to_.pairing = name == "neighbours" ? BESIDE : WITHIN_REACH;
    }
    void distance(const std::string& name) {
        constexpr const char* NAMES[] = {"cosine", "l1", "l2"};
        for (const Distance known : {COSINE, L1, L2})
            if (name == NAMES[known]) {
                to_.distance = known;
                return;
            }
        if (!json_.failed()) refuse_as_unsupported("the distance " + quoted(name));
    }

    void prepare() {
        json_.object([&](const std::string& name) {
            if (name == "mean") numbers(to_.mean);
            else if (name == "std") numbers(to_.std);
            else if (name == "pillow") to_.pillow = json_.whole(0, 1000);
            else if (name == "interpolation") to_.interpolation = json_.text();
            else if (name == "resize")
                sizes_of({{"height", to_.resized_height, 1, MOST_ON_A_SIDE * 100},
                          {"width", to_.resized_width, 1, MOST_ON_A_SIDE * 100}});
            else json_.skip();
        });
    }

    void class_names() {
        if (json_.null()) return;
        to_.class_names.clear();
        json_.list([&] {
            to_.class_names.push_back(json_.text());
            if (static_cast<int64_t>(to_.class_names.size()) > MOST_CLASSES) json_.fail("a list that is too long");
        });
    }

    JsonReader& json_;
    Description& to_;
    std::string unsupported_;
};

// What is wrong about numbers that are possible one by one, or null.
const char* contradiction(const Description& of) {
    if (!of.channels || !of.tubelet || !of.depth) return "input, patch or sizes are missing";
    for (const int64_t size : {of.frames, of.height, of.width, of.high, of.wide, of.dim, of.inner, of.states, of.rank,
                               of.taps, of.classes})
        if (!size) return "a size is missing";
    if (of.frames % of.tubelet || of.height < of.high || of.width < of.wide) return "patches do not fit into the input";
    const int64_t frame = of.height * of.width;  // at most 2^32
    if (of.channels * of.frames > MOST_INPUT / frame) return "the input is too large";
    if (of.patches() > MOST_TOKENS - static_cast<int64_t>(of.protected_at.size())) return "too many tokens";
    if (of.patch_size() > MOST_INPUT) return "a patch is too large";
    if (of.protected_at.empty()) return "there is no class token";
    std::vector<int64_t> places = of.protected_at;
    std::sort(places.begin(), places.end());
    if (places.back() >= of.tokens()) return "a protected token stands behind the last one";
    if (std::adjacent_find(places.begin(), places.end()) != places.end()) return "two protected tokens at one place";
    if (!(of.block_eps >= 0 && of.block_eps <= 1 && of.head_eps >= 0 && of.head_eps <= 1)) return "an impossible eps";
    const size_t channels = static_cast<size_t>(of.channels);
    if (of.mean.size() != channels || of.std.size() != channels) return "mean or std of another number of channels";
    if (std::any_of(of.std.begin(), of.std.end(), [](double std) { return !(std > 0); })) return "a std that is not above 0";
    if (of.resized_height < of.height || of.resized_width < of.width) return "more is cropped than was resized to";
    if (!of.class_names.empty() && static_cast<int64_t>(of.class_names.size()) != of.classes)
        return "more or fewer class names than classes";
    if (static_cast<int64_t>(of.removed.size()) != of.depth) return "more or fewer removed tokens than blocks";
    return nullptr;
}

}  // namespace

rmeeto_status check_removed(const Description& of, const int64_t* removed, rmeeto_status status, rmeeto_error* error) {
    int64_t patches = of.patches();
    // A patch beside those that a guard keeps may have no neighbour left.
    const int64_t kept = of.pairing == BESIDE && of.guard ? 2 * of.guard + 2 : 0;
    for (int64_t block = 0; block < of.depth; block++) {
        const int64_t candidates = block && patches - kept > 1 ? (patches - kept + 1) / 2 : 0;
        if (removed[block] < 0 || removed[block] > candidates)
            return refuse(error, status, "%lld tokens cannot be merged before block %lld: %lld of %lld patches can",
                          static_cast<long long>(removed[block]), static_cast<long long>(block),
                          static_cast<long long>(candidates), static_cast<long long>(patches));
        patches -= removed[block];
    }
    return RMEETO_OK;
}

rmeeto_status read_description(const std::string& text, Description& to, rmeeto_error* error) {
    if (text.empty())
        return refuse(error, RMEETO_DAMAGED, "no model of rmeeto: the header has no metadata under the name rmeeto");
    JsonReader json(text);
    DescriptionReader reader(json, to);
    reader.read();
    if (!reader.unsupported().empty()) return refuse(error, RMEETO_UNSUPPORTED, "%s", reader.unsupported().c_str());
    if (json.failed())
        return refuse(error, RMEETO_DAMAGED, "a damaged description: %s, at its byte %llu", json.why(),
                      static_cast<unsigned long long>(json.position()));
    if (to.removed.empty()) to.removed.assign(static_cast<size_t>(to.depth), 0);
    if (const char* const why = contradiction(to))
        return refuse(error, RMEETO_DAMAGED, "a description that contradicts itself: %s", why);
    return check_removed(to, to.removed.data(), RMEETO_DAMAGED, error);
}

}  // namespace rmeeto
