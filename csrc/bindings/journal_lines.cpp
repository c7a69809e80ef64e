// The lines of a journal of a library run: checked, read and hashed many at once.
#include <pybind11/stl.h>

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/crc32.h"
#include "bindings/columns.h"
#include "bindings/library_module.h"

namespace fxfast {
namespace {

// Reads a line from the left; what does not fit ends it.
class LineReader {
 public:
  explicit LineReader(std::string_view line) : rest_(line) {}

  bool skip(std::string_view text) {
    if (rest_.substr(0, text.size()) != text) return false;
    rest_.remove_prefix(text.size());
    return true;
  }
  // Printable ASCII without quotes and backslashes.
  std::string_view text() {
    std::size_t count = 0;
    while (count < rest_.size() && rest_[count] >= ' ' && rest_[count] <= '~' &&
           rest_[count] != '"' && rest_[count] != '\\') {
      ++count;
    }
    return taken(count);
  }
  // Digits, with a sign in front where `sign` allows one, that fit 64 bits.
  std::optional<std::int64_t> number(bool sign) {
    std::size_t count = sign && skip_sign() ? 1 : 0;
    const std::size_t first = count;
    while (count < rest_.size() && rest_[count] >= '0' && rest_[count] <= '9') ++count;
    if (count == first) return std::nullopt;
    const std::string_view digits = taken(count);
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{}) return std::nullopt;
    return value;
  }
  bool at_end() const { return rest_.empty(); }

 private:
  bool skip_sign() const { return !rest_.empty() && rest_.front() == '-'; }
  std::string_view taken(std::size_t count) {
    const std::string_view text = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return text;
  }
  std::string_view rest_;
};

struct PlainLine {
  std::string_view out, in, run;
  std::int64_t size, time_ns, out_size, out_time_ns;
};

constexpr std::size_t kChecksumAt = 8, kBodyAt = 18;

bool checksum_holds(std::string_view line) {
  std::uint32_t sum = 0;
  const char* digits = line.data() + kChecksumAt;
  const auto [end, error] = std::from_chars(digits, digits + 8, sum, 16);
  return error == std::errc{} && end == digits + 8 &&
         sum == crc32(line.data() + kBodyAt, line.size() - kBodyAt);
}

// A file's line as the journal writes it, of names without a backslash, whose checksum holds.
std::optional<PlainLine> plain_line(std::string_view line) {
  if (line.size() < kBodyAt) return std::nullopt;
  PlainLine found{};
  const auto number = [](std::optional<std::int64_t> value, std::int64_t& to) {
    to = value.value_or(0);
    return value.has_value();
  };
  LineReader reader(line);
  if (!reader.skip("{\"crc\":\"")) return std::nullopt;
  reader = LineReader(line.substr(kChecksumAt + 8));
  if (!reader.skip("\",\"out\":\"")) return std::nullopt;
  found.out = reader.text();
  if (!reader.skip("\",\"in\":\"")) return std::nullopt;
  found.in = reader.text();
  if (!reader.skip("\",\"id\":[") || !number(reader.number(false), found.size) ||
      !reader.skip(",") || !number(reader.number(true), found.time_ns) ||
      !reader.skip("],\"run\":\"")) {
    return std::nullopt;
  }
  found.run = reader.text();
  if (!reader.skip("\",\"file\":[") || !number(reader.number(false), found.out_size) ||
      !reader.skip(",") || !number(reader.number(true), found.out_time_ns) ||
      !reader.skip("]}\n") || !reader.at_end() || !checksum_holds(line)) {
    return std::nullopt;
  }
  return found;
}

// The lines of a piece of a journal, which end in newlines: the hashes of output, work and run,
// size and time of the output. `strange` gets every other line and gives those five, or None.
py::tuple journal_lines(const py::bytes& piece, const py::function& strange) {
  Numbers out_key, work, run_key, size, time_ns;
  std::optional<std::string> last_run;  // most lines have that of the last
  py::str run;
  std::int64_t hash_of_run = 0;
  std::string_view rest = piece;
  while (!rest.empty()) {
    const std::size_t newline = rest.find('\n');
    const std::size_t count = newline == std::string_view::npos ? rest.size() : newline + 1;
    const std::string_view line = rest.substr(0, count);
    rest.remove_prefix(count);
    if (const auto plain = plain_line(line)) {
      if (last_run != plain->run) {
        last_run = std::string(plain->run);
        run = py::str(*last_run);
        hash_of_run = hash_of(py::str(last_run->substr(0, last_run->find('-'))));
      }
      out_key.push_back(hash_of(plain->out));
      work.push_back(work_key(bytes_of(plain->in), plain->size, plain->time_ns, run));
      run_key.push_back(hash_of_run);
      size.push_back(plain->out_size);
      time_ns.push_back(plain->out_time_ns);
      continue;
    }
    const py::object values = strange(bytes_of(line));
    if (values.is_none()) continue;
    const auto five = values.cast<std::vector<std::int64_t>>();
    if (five.size() != 5) throw InputError("strange: expected five numbers");
    run_key.push_back(five[2]);
    out_key.push_back(five[0]);
    work.push_back(five[1]);
    size.push_back(five[3]);
    time_ns.push_back(five[4]);
  }
  return py::make_tuple(packed(out_key), packed(work), packed(run_key), packed(size),
                        packed(time_ns));
}

}  // namespace

void bind_journal(py::module_& module) {
  module.def("journal_lines", &journal_lines, py::arg("piece"), py::arg("strange"));
}

}  // namespace fxfast
