// PNG pictures, by libpng: 8 bits of every channel as they stand, without gamma or transparency, as Pillow takes them.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include <png.h>

#include "picture.h"

namespace rmeeto {
namespace {

struct Reading {
    explicit Reading(const std::vector<uint8_t>& file) : file(file) {}

    const std::vector<uint8_t>& file;
    size_t at = 0;
    char text[128] = "damaged";
    std::vector<png_bytep> rows;
};

void read_bytes(png_structp png, png_bytep to, size_t count) {
    Reading& reading = *static_cast<Reading*>(png_get_io_ptr(png));
    if (reading.file.size() - reading.at < count) png_error(png, "a truncated PNG file");
    std::memcpy(to, reading.file.data() + reading.at, count);
    reading.at += count;
}

void fail(png_structp png, png_const_charp text) {
    Reading& reading = *static_cast<Reading*>(png_get_error_ptr(png));
    std::snprintf(reading.text, sizeof reading.text, "%s", text);
    png_longjmp(png, 1);
}

void ignore(png_structp, png_const_charp) {}

// All that lives across the longjmp belongs to the caller.
bool decode_rows(png_structp png, png_infop info, Reading& reading, DecodedPicture& to) {
    if (setjmp(png_jmpbuf(png))) return false;
    png_set_read_fn(png, &reading, read_bytes);
    png_read_info(png, info);
    to.height = png_get_image_height(png, info), to.width = png_get_image_width(png, info);
    if (to.width > MOST_PIXELS / std::max<int64_t>(to.height, 1)) png_error(png, "too many pixels");
    const bool is_grey = !(png_get_color_type(png, info) & PNG_COLOR_MASK_COLOR);
    png_set_palette_to_rgb(png);
    if (is_grey) png_set_expand_gray_1_2_4_to_8(png);
    png_set_strip_16(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    to.channels = is_grey ? 1 : 3;
    const size_t line = png_get_rowbytes(png, info);
    if (line != static_cast<size_t>(to.width * to.channels)) png_error(png, "an unknown form of PNG");
    to.pixels.resize(line * static_cast<size_t>(to.height));
    reading.rows.resize(static_cast<size_t>(to.height));
    for (size_t y = 0; y < reading.rows.size(); y++) reading.rows[y] = to.pixels.data() + y * line;
    png_read_image(png, reading.rows.data());
    png_read_end(png, nullptr);
    return true;
}

}  // namespace

std::string decode_png(const std::vector<uint8_t>& file, DecodedPicture& to) {
    Reading reading(file);
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reading, fail, ignore);
    png_infop info = png ? png_create_info_struct(png) : nullptr;
    const bool is_done = info && decode_rows(png, info, reading, to);
    png_destroy_read_struct(&png, &info, nullptr);
    return is_done ? std::string() : std::string(reading.text);
}

}  // namespace rmeeto
