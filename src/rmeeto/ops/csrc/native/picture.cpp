#include "picture.h"

#include <cstring>

namespace rmeeto {

std::string decode(const std::vector<uint8_t>& file, DecodedPicture& to) {
    const auto begins = [&](const char* with, size_t count) {
        return file.size() >= count && !std::memcmp(file.data(), with, count);
    };
    if (begins("P5", 2) || begins("P6", 2)) return decode_ppm(file, to);
    if (begins("\xFF\xD8\xFF", 3)) {
#if defined(RMEETO_HAS_JPEG)
        return decode_jpeg(file, to);
#else
        return "a JPEG file: this program was built without libjpeg";
#endif
    }
    if (begins("\x89PNG", 4)) {
#if defined(RMEETO_HAS_PNG)
        return decode_png(file, to);
#else
        return "a PNG file: this program was built without libpng";
#endif
    }
    return file.empty() ? "the file is empty" : "neither PPM, PGM, JPEG nor PNG";
}

void convert(DecodedPicture& picture, int64_t channels) {
    if (picture.channels == channels) return;
    const size_t pixels = static_cast<size_t>(picture.height * picture.width);
    std::vector<uint8_t> converted(pixels * static_cast<size_t>(channels));
    for (size_t i = 0; i < pixels; i++) {
        const uint8_t* const from = picture.pixels.data() + i * static_cast<size_t>(picture.channels);
        if (channels == 3)
            std::memset(converted.data() + 3 * i, from[0], 3);
        else  // 0.299, 0.587 and 0.114 in parts of 65536
            converted[i] = static_cast<uint8_t>((from[0] * 19595 + from[1] * 38470 + from[2] * 7471 + 0x8000) >> 16);
    }
    picture.pixels = std::move(converted), picture.channels = channels;
}

// ---- PPM and PGM: "P6" or "P5", width, height and the largest value as text, one space, and the bytes

std::string decode_ppm(const std::vector<uint8_t>& file, DecodedPicture& to) {
    size_t at = 2;
    const auto number = [&]() -> int64_t {
        for (bool in_comment = false; at < file.size(); at++) {
            if (file[at] == '#') in_comment = true;
            if (file[at] == '\n') in_comment = false;
            if (!in_comment && !std::strchr(" \t\r\n", file[at])) break;
        }
        int64_t value = -1;
        for (; at < file.size() && file[at] >= '0' && file[at] <= '9' && value < MOST_PIXELS; at++)
            value = (value < 0 ? 0 : value * 10) + (file[at] - '0');
        return value;
    };
    to.width = number(), to.height = number();
    const int64_t largest = number();
    to.channels = file[1] == '6' ? 3 : 1;
    if (to.width < 1 || to.height < 1 || to.width > MOST_PIXELS / to.height || largest != 255)
        return "a PPM or PGM file without a possible size, or with another largest value than 255";
    const size_t bytes = static_cast<size_t>(to.width * to.height * to.channels);
    at++;
    if (at > file.size() || file.size() - at < bytes) return "a truncated PPM or PGM file";
    to.pixels.assign(file.begin() + static_cast<std::ptrdiff_t>(at), file.begin() + static_cast<std::ptrdiff_t>(at + bytes));
    return {};
}

}  // namespace rmeeto
