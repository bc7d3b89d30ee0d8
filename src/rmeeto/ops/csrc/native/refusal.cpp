#include "refusal.h"

#include <cstdarg>
#include <cstdio>

namespace rmeeto {

rmeeto_status refuse(rmeeto_error* error, rmeeto_status status, const char* format, ...) {
    if (!error) return status;
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return status;
}

std::string quoted(std::string_view text) {
    constexpr size_t MOST = 48;
    std::string shown = "\"";
    for (const char c : text.substr(0, MOST)) shown += c >= ' ' && c <= '~' ? c : '?';
    return shown + (text.size() > MOST ? "...\"" : "\"");
}

}  // namespace rmeeto
