// Pictures from files, for rmeeto-run: decoded fully, or refused with the reason.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rmeeto {

struct DecodedPicture {
    int64_t height = 0, width = 0, channels = 0;  // 1 is grey, 3 are red, green, blue
    std::vector<uint8_t> pixels;                  // (height, width, channels)
};

// As many as Pillow takes for safe.
constexpr int64_t MOST_PIXELS = 89478485;

// Each takes the whole content of a file, and returns why it cannot be decoded, or an empty text.
std::string decode_ppm(const std::vector<uint8_t>& file, DecodedPicture& to);
std::string decode_jpeg(const std::vector<uint8_t>& file, DecodedPicture& to);
std::string decode_png(const std::vector<uint8_t>& file, DecodedPicture& to);

// By the file's first bytes.
std::string decode(const std::vector<uint8_t>& file, DecodedPicture& to);

// Grey from colour as Pillow weighs it (ITU-R 601), or three equal channels from grey.
void convert(DecodedPicture& picture, int64_t channels);

}  // namespace rmeeto
