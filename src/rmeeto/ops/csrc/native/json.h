// A strict reader of JSON (RFC 8259) that takes what it is asked for and keeps nothing.
//
// It reads a text once, from front to back. The first thing that is not as asked ends the reading: from then on every
// call returns at once, and why() says what was wrong. So callers ask at the end alone.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

namespace rmeeto {

class JsonReader {
public:
    explicit JsonReader(std::string_view text) : text_(text) {}

    bool failed() const { return why_ != nullptr; }
    const char* why() const { return why_; }
    size_t position() const { return at_; }  // bytes read so far
    void fail(const char* why) {
        if (!why_) why_ = why;
    }

    // member(name) is called for each member and has to read its value. No name may come twice.
    template <class Member>
    void object(Member member) {
        if (!open('{')) return;
        std::set<std::string> names;
        for (bool first = true; !failed() && !closes('}', first); first = false) {
            const std::string name = text();
            expect(':');
            if (failed()) break;
            if (!names.insert(name).second) return fail("a name that stands twice in an object");
            if (names.size() > MOST_NAMES) return fail("too many names in an object");
            member(name);
        }
        depth_--;
    }

    // item() is called for each item and has to read it.
    template <class Item>
    void list(Item item) {
        if (!open('[')) return;
        for (bool first = true; !failed() && !closes(']', first); first = false) item();
        depth_--;
    }

    // Reads a null if there is one; otherwise reads nothing and returns false.
    bool null();
    std::string text();                           // without the character of code 0, which ends a text in C
    int64_t whole(int64_t least, int64_t most);  // a number without fraction or exponent
    double number();                              // a finite one
    void skip();                                  // any value
    void end();                                   // nothing but spaces may follow

private:
    static constexpr int MOST_DEPTH = 16;
    static constexpr size_t MOST_NAMES = 65536;

    void skip_spaces();
    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    bool take(char c);
    void expect(char c);
    bool open(char bracket);
    bool closes(char bracket, bool is_first);
    bool word(std::string_view word);
    std::string_view number_text();
    uint32_t code_unit();
    void escape(std::string& to);
    void utf8(std::string& to);

    std::string_view text_;
    size_t at_ = 0;
    int depth_ = 0;
    const char* why_ = nullptr;
};

}  // namespace rmeeto
