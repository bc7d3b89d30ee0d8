// Resizing gives Pillow's bytes, as models were trained and evaluated with it.
//
// Each output pixel is a weighted mean of input pixels around its middle. The filter is as wide as the input pixels that
// an output pixel covers (and never narrower than for an enlargement), its weights are normalised to 1 and rounded to
// whole numbers of 22 bits behind the point. Rows and columns are done one after the other, and rounded to bytes between.
#include "prepare.h"

#include <cmath>
#include <vector>

#include "refusal.h"

// A product and a sum are two operations, as in Pillow: in one, a weight could come out as its neighbour.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

namespace rmeeto {
namespace {

constexpr int64_t MOST_ON_A_SIDE = 65536;
constexpr int POINT = 22;  // bits behind the point: with 8 of a pixel and 1 of a sign a sum of products has room in 32

using Filter = double (*)(double distance);

// Keys 1981, "Cubic convolution interpolation for digital image processing", with a = -1/2.
double bicubic(double distance) {
    constexpr double A = -0.5;
    const double x = distance < 0 ? -distance : distance;
    if (x < 1) return ((A + 2) * x - (A + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * A;
    return 0;
}

double bilinear(double distance) {
    const double x = distance < 0 ? -distance : distance;
    return x < 1 ? 1 - x : 0;
}

// One side: which input pixels make each output pixel between `first` and `first + count`, and how much of each.
struct Axis {
    std::vector<int64_t> begin, end;  // by output pixel
    std::vector<int32_t> weights;     // (output pixel, width)
    int64_t width = 0;

    int64_t first() const { return begin.front(); }
    int64_t last() const { return end.back(); }
    int64_t taps(int64_t i) const { return end[static_cast<size_t>(i)] - begin[static_cast<size_t>(i)]; }

    Axis(Filter filter, double reach, int64_t from, int64_t to, int64_t first, int64_t count) {
        const double scale = static_cast<double>(from) / static_cast<double>(to), stretch = scale < 1 ? 1 : scale;
        const double support = reach * stretch, one_by_stretch = 1.0 / stretch;
        width = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
        weights.assign(static_cast<size_t>(width * count), 0);
        std::vector<double> exact(static_cast<size_t>(width));
        for (int64_t i = 0; i < count; i++) {
            const double middle = (static_cast<double>(first + i) + 0.5) * scale;
            const int64_t low = static_cast<int64_t>(middle - support + 0.5), high = static_cast<int64_t>(middle + support + 0.5);
            begin.push_back(low < 0 ? 0 : low), end.push_back(high > from ? from : high);
            double total = 0;
            const int64_t taps = end.back() - begin.back();
            for (int64_t k = 0; k < taps; k++) {
                const double place = static_cast<double>(begin.back() + k) - middle + 0.5;
                total += exact[static_cast<size_t>(k)] = filter(place * one_by_stretch);
            }
            for (int64_t k = 0; k < taps; k++) {
                const double weight = total != 0 ? exact[static_cast<size_t>(k)] / total : exact[static_cast<size_t>(k)];
                weights[static_cast<size_t>(i * width + k)] =
                    static_cast<int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << POINT));
            }
        }
    }
};

constexpr int32_t HALF = 1 << (POINT - 1);

uint8_t rounded(int32_t sum) {
    const int32_t value = sum >> POINT;
    return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

using Bytes = std::vector<uint8_t>;

// A rectangle of a picture: its first pixel, and where in the picture that is.
struct Part {
    const uint8_t* pixels;
    int64_t top, left, width, channels;
    const uint8_t* at(int64_t y, int64_t x) const { return pixels + ((y - top) * width + (x - left)) * channels; }
};

// Rows [begin, end), each made as wide as the axis says.
Bytes narrow(const Part& part, const Axis& axis, int64_t begin, int64_t end) {
    const int64_t count = static_cast<int64_t>(axis.begin.size());
    Bytes out(static_cast<size_t>((end - begin) * count * part.channels));
    uint8_t* to = out.data();
    for (int64_t y = begin; y < end; y++)
        for (int64_t x = 0; x < count; x++)
            for (int64_t c = 0; c < part.channels; c++) {
                int32_t sum = HALF;
                const uint8_t* from = part.at(y, axis.begin[static_cast<size_t>(x)]) + c;
                const int32_t* const weights = axis.weights.data() + x * axis.width;
                for (int64_t k = 0; k < axis.taps(x); k++, from += part.channels) sum += *from * weights[k];
                *to++ = rounded(sum);
            }
    return out;
}

// Columns [begin, end), each made as high as the axis says.
Bytes shorten(const Part& part, const Axis& axis, int64_t begin, int64_t end) {
    const int64_t count = static_cast<int64_t>(axis.begin.size()), line = (end - begin) * part.channels;
    Bytes out(static_cast<size_t>(count * line));
    uint8_t* to = out.data();
    for (int64_t y = 0; y < count; y++) {
        const uint8_t* const first = part.at(axis.begin[static_cast<size_t>(y)], begin);
        const int32_t* const weights = axis.weights.data() + y * axis.width;
        for (int64_t i = 0; i < line; i++) {
            int32_t sum = HALF;
            const uint8_t* from = first + i;
            for (int64_t k = 0; k < axis.taps(y); k++, from += part.width * part.channels) sum += *from * weights[k];
            *to++ = rounded(sum);
        }
    }
    return out;
}

struct Size {
    int64_t height, width;
};

// Whole numbers where two are equally near: the even one, as Python rounds.
int64_t nearest_even(double x) { return static_cast<int64_t>(std::nearbyint(x)); }

// The shorter side gets the size wanted, and the longer one what keeps the shape (rounded down, as torchvision does). Of
// sizes that differ, as of a model for oblong images, the picture gets the least that covers both (as timm does).
Size resized(const Description& of, const Picture& picture) {
    const double height = static_cast<double>(picture.height), width = static_cast<double>(picture.width);
    if (of.resized_height == of.resized_width) {
        const int64_t wanted = of.resized_height;
        if (picture.width <= picture.height)
            return {static_cast<int64_t>(static_cast<double>(wanted * picture.height) / width), wanted};
        return {wanted, static_cast<int64_t>(static_cast<double>(wanted * picture.width) / height)};
    }
    const double by_height = height / static_cast<double>(of.resized_height);
    const double by_width = width / static_cast<double>(of.resized_width);
    const double ratio = by_height < by_width ? by_height : by_width;
    return {nearest_even(height / ratio), nearest_even(width / ratio)};
}

// Rows go first, or since version 13 of Pillow columns do if they lose more than twice as many pixels.
bool columns_first(const Description& of, const Picture& picture, const Size& size) {
    constexpr int64_t CHANGED_IN = 13;
    const int64_t lost = picture.height - size.height, lost_across = picture.width - size.width;
    return of.pillow >= CHANGED_IN && lost > 0 && lost > 2 * lost_across;
}

int64_t half_even(int64_t gap) { return nearest_even(static_cast<double>(gap) / 2); }

}  // namespace

rmeeto_status prepare(const Description& of, const Picture& picture, int64_t frame, float* image, rmeeto_error* error) {
    if (picture.height < 1 || picture.width < 1 || picture.height > MOST_ON_A_SIDE || picture.width > MOST_ON_A_SIDE)
        return refuse(error, RMEETO_INVALID, "a picture of %lld x %lld pixels: 1 to %lld on a side are possible",
                      static_cast<long long>(picture.width), static_cast<long long>(picture.height),
                      static_cast<long long>(MOST_ON_A_SIDE));
    const bool is_cubic = of.interpolation == "bicubic";
    if (!is_cubic && of.interpolation != "bilinear")
        return refuse(error, RMEETO_UNSUPPORTED, "the model wants pictures resized by %s: this library knows bicubic and bilinear",
                      quoted(of.interpolation).c_str());
    const Filter filter = is_cubic ? bicubic : bilinear;
    const double reach = is_cubic ? 2 : 1;
    const Size size = resized(of, picture);
    const int64_t top = half_even(size.height - of.height), left = half_even(size.width - of.width);
    const Axis across(filter, reach, picture.width, size.width, left, of.width);
    const Axis down(filter, reach, picture.height, size.height, top, of.height);

    const int64_t channels = of.channels;
    const Part whole{picture.pixels, 0, 0, picture.width, channels};
    Bytes between, pixels;
    if (columns_first(of, picture, size)) {
        between = shorten(whole, down, across.first(), across.last());
        pixels = narrow({between.data(), 0, across.first(), across.last() - across.first(), channels}, across, 0, of.height);
    } else {
        between = narrow(whole, across, down.first(), down.last());
        pixels = shorten({between.data(), down.first(), 0, of.width, channels}, down, 0, of.width);
    }
    const int64_t area = of.height * of.width;
    for (int64_t c = 0; c < channels; c++) {
        const float mean = static_cast<float>(of.mean[static_cast<size_t>(c)]);
        const float std = static_cast<float>(of.std[static_cast<size_t>(c)]);
        float* const plane = image + (c * of.frames + frame) * area;
        const uint8_t* const from = pixels.data() + c;
        for (int64_t i = 0; i < area; i++) plane[i] = (static_cast<float>(from[i * channels]) / 255.0f - mean) / std;
    }
    return RMEETO_OK;
}

}  // namespace rmeeto
