// JPEG pictures, by libjpeg.
#include <csetjmp>
#include <cstdio>

#include <jpeglib.h>
#include <jerror.h>

#include "picture.h"

namespace rmeeto {
namespace {

struct Failure {
    jpeg_error_mgr manager;  // the first member: libjpeg hands out its address
    std::jmp_buf back;
    char text[JMSG_LENGTH_MAX];
};

void fail(j_common_ptr jpeg) {
    Failure* const failure = reinterpret_cast<Failure*>(jpeg->err);
    jpeg->err->format_message(jpeg, failure->text);
    std::longjmp(failure->back, 1);
}

// Like Pillow: what is truncated is refused, other damage passes.
void warn(j_common_ptr jpeg, int level) {
    if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF) fail(jpeg);
}

// All that lives across the longjmp belongs to the caller.
bool decode_lines(jpeg_decompress_struct& jpeg, Failure& failure, const std::vector<uint8_t>& file, DecodedPicture& to) {
    if (setjmp(failure.back)) return false;
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, file.data(), file.size());
    jpeg_read_header(&jpeg, TRUE);
    if (static_cast<int64_t>(jpeg.image_width) > MOST_PIXELS / static_cast<int64_t>(jpeg.image_height ? jpeg.image_height : 1)) {
        std::snprintf(failure.text, sizeof failure.text, "more than %lld pixels", static_cast<long long>(MOST_PIXELS));
        return false;
    }
    if (jpeg.num_components != 1 && jpeg.num_components != 3) {
        std::snprintf(failure.text, sizeof failure.text, "a JPEG file of %d channels", jpeg.num_components);
        return false;
    }
    jpeg.out_color_space = jpeg.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_start_decompress(&jpeg);
    to.width = jpeg.output_width, to.height = jpeg.output_height, to.channels = jpeg.output_components;
    const size_t line = static_cast<size_t>(to.width * to.channels);
    to.pixels.resize(line * static_cast<size_t>(to.height));
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = to.pixels.data() + line * jpeg.output_scanline;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    return true;
}

}  // namespace

std::string decode_jpeg(const std::vector<uint8_t>& file, DecodedPicture& to) {
    jpeg_decompress_struct jpeg{};
    Failure failure{};
    jpeg.err = jpeg_std_error(&failure.manager);
    failure.manager.error_exit = fail;
    failure.manager.emit_message = warn;
    const bool is_done = decode_lines(jpeg, failure, file, to);
    jpeg_destroy_decompress(&jpeg);
    return is_done ? std::string() : std::string(failure.text);
}

}  // namespace rmeeto
