// Errors: a status, and a line of text for the caller.
#pragma once

#include <string>
#include <string_view>

#include "rmeeto.h"

namespace rmeeto {

// Writes the text and returns the status. `error` may be null.
rmeeto_status refuse(rmeeto_error* error, rmeeto_status status, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

// Text from a file as it may stand in an error: printable, short, in quotation marks.
std::string quoted(std::string_view text);

}  // namespace rmeeto
