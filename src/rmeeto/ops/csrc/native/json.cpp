#include "json.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

namespace rmeeto {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append(std::string& to, uint32_t code) {
    if (code < 0x80) {
        to += static_cast<char>(code);
        return;
    }
    const int behind = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    const uint32_t lead = behind == 1 ? 0xC0 : behind == 2 ? 0xE0 : 0xF0;
    to += static_cast<char>(lead | code >> 6 * behind);
    for (int i = behind - 1; i >= 0; i--) to += static_cast<char>(0x80 | (code >> 6 * i & 0x3F));
}

// The double nearest to a decimal number. Numbers of up to 2^53 times or over a power of ten up to 10^22 need one
// rounding, since both factors are exact (Clinger 1990); others are left to the standard library.
double nearest(std::string_view text) {
    uint64_t digits = 0;
    int64_t exponent = 0;
    size_t i = text[0] == '-';
    bool is_short = true;
    const auto take_digits = [&](int64_t step) {
        for (; i < text.size() && is_digit(text[i]); i++, exponent -= step) {
            digits = digits * 10 + static_cast<uint64_t>(text[i] - '0');
            if (digits > uint64_t{1} << 53) {
                is_short = false;
                return;
            }
        }
    };
    take_digits(0);
    if (is_short && i < text.size() && text[i] == '.') i++, take_digits(1);
    if (is_short && i < text.size()) {  // an e or E
        const bool is_negative = text[++i] == '-';
        i += text[i] == '-' || text[i] == '+';
        int64_t power = 0;
        for (; i < text.size() && power < 1000; i++) power = power * 10 + (text[i] - '0');
        exponent += is_negative ? -power : power;
    }
    if (is_short && exponent >= -22 && exponent <= 22) {
        double power = 1;
        for (int64_t k = 0; k < std::llabs(exponent); k++) power *= 10;
        const double value = static_cast<double>(digits);
        const double size = exponent < 0 ? value / power : value * power;
        return text[0] == '-' ? -size : size;
    }
#if defined(__cpp_lib_to_chars)
    double value = NAN;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
#else
    return std::strtod(std::string(text).c_str(), nullptr);
#endif
}

}  // namespace

void JsonReader::skip_spaces() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') at_++;
}

bool JsonReader::take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    at_++;
    return true;
}

void JsonReader::expect(char c) {
    if (failed()) return;
    skip_spaces();
    if (!take(c)) fail(c == ':' ? "no colon behind a name" : c == '"' ? "no text where one belongs" : "no bracket");
}

bool JsonReader::open(char bracket) {
    if (failed()) return false;
    skip_spaces();
    if (!take(bracket))
        fail(bracket == '{' ? "no object where one belongs" : "no list where one belongs");
    else if (++depth_ > MOST_DEPTH)
        fail("too many brackets inside each other");
    return !failed();
}

// Whether the bracket closes here; reads it, or the comma between two values.
bool JsonReader::closes(char bracket, bool is_first) {
    skip_spaces();
    if (take(bracket)) return true;
    if (!is_first && !take(',')) fail("neither a comma nor a bracket behind a value");
    return false;
}

bool JsonReader::word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
}

bool JsonReader::null() {
    if (failed()) return false;
    skip_spaces();
    return word("null");
}

uint32_t JsonReader::code_unit() {
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        const char c = peek();
        const int value = is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (value < 0) {
            fail("\\u without four hexadecimal digits");
            return 0;
        }
        unit = unit << 4 | static_cast<uint32_t>(value);
        at_++;
    }
    return unit;
}

void JsonReader::escape(std::string& to) {
    constexpr std::string_view SHORT = "\"\\/bfnrt", MEANING = "\"\\/\b\f\n\r\t";
    if (take('u')) {
        uint32_t code = code_unit();
        if (code >= 0xD800 && code < 0xDC00) {  // the first half of a pair
            const uint32_t second = word("\\u") ? code_unit() : 0;
            if (second < 0xDC00 || second > 0xDFFF) return fail("half a pair of \\u");
            code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00);
        } else if (code >= 0xDC00 && code < 0xE000) {
            return fail("half a pair of \\u");
        }
        return code ? append(to, code) : fail("\\u0000, which would end a text in C");
    }
    const size_t which = at_ < text_.size() ? SHORT.find(text_[at_]) : std::string_view::npos;
    if (which == std::string_view::npos) return fail("an unknown escape in a text");
    to += MEANING[which];
    at_++;
}

// One character of more than one byte: of the shortest form, below 0x110000, and no half of a pair.
void JsonReader::utf8(std::string& to) {
    const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text_[at_ + i])); };
    const uint32_t lead = byte(0);
    const size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || text_.size() - at_ < bytes) return fail("a text that is not UTF-8");
    uint32_t code = lead & (0xFFu >> (bytes + 1));
    for (size_t i = 1; i < bytes; i++) {
        if ((byte(i) & 0xC0) != 0x80) return fail("a text that is not UTF-8");
        code = code << 6 | (byte(i) & 0x3F);
    }
    constexpr uint32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < LEAST[bytes] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        return fail("a text that is not UTF-8");
    to.append(text_.substr(at_, bytes));
    at_ += bytes;
}

std::string JsonReader::text() {
    std::string read;
    expect('"');
    while (!failed()) {
        if (at_ >= text_.size()) {
            fail("a text that does not end");
        } else if (take('"')) {
            return read;
        } else if (take('\\')) {
            escape(read);
        } else if (static_cast<unsigned char>(text_[at_]) < 0x20) {
            fail("a control character in a text");
        } else if (static_cast<unsigned char>(text_[at_]) >= 0x80) {
            utf8(read);
        } else {
            read += text_[at_++];
        }
    }
    return {};
}

// What RFC 8259 calls a number; empty if there is none.
std::string_view JsonReader::number_text() {
    if (failed()) return {};
    skip_spaces();
    const size_t begin = at_;
    const auto digits = [&] {
        const size_t first = at_;
        while (is_digit(peek())) at_++;
        return at_ > first;
    };
    take('-');
    bool is_number = take('0') || digits();
    if (is_number && take('.')) is_number = digits();
    if (is_number && (take('e') || take('E'))) {
        if (!take('-')) take('+');
        is_number = digits();
    }
    if (!is_number) fail("no number where one belongs");
    return is_number ? text_.substr(begin, at_ - begin) : std::string_view();
}

int64_t JsonReader::whole(int64_t least, int64_t most) {
    const std::string_view text = number_text();
    if (failed()) return 0;
    int64_t value = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (end != text.data() + text.size())
        fail("a number with a fraction where a whole one belongs");
    else if (problem != std::errc() || value < least || value > most)
        fail("a whole number that is too small or too large");
    return failed() ? 0 : value;
}

double JsonReader::number() {
    const std::string_view text = number_text();
    if (failed()) return 0;
    const double value = nearest(text);
    if (!std::isfinite(value)) fail("a number that is too large");
    return value;
}

void JsonReader::skip() {
    if (failed()) return;
    skip_spaces();
    switch (peek()) {
        case '{':
            return object([this](const std::string&) { skip(); });
        case '[':
            return list([this] { skip(); });
        case '"':
            text();
            return;
        default:
            if (!word("null") && !word("true") && !word("false")) number();
    }
}

void JsonReader::end() {
    if (failed()) return;
    skip_spaces();
    if (at_ < text_.size()) fail("something behind its end");
}

}  // namespace rmeeto
