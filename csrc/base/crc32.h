// The CRC-32 of zlib and PNG (ISO 3309), eight bytes at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace fxfast {

namespace crc32_tables {

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// Table k moves a byte past k more bytes: "slicing by 8" (M. Kounavis and F. Berry, 2005).
constexpr Tables make() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? 0xedb88320u : 0u);
    tables[0][byte] = value;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 255];
    }
  }
  return tables;
}

inline constexpr Tables kTables = make();

}  // namespace crc32_tables

inline std::uint32_t crc32(const char* data, std::size_t count) {
  const auto& tables = crc32_tables::kTables;
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(data[at]); };
  std::uint32_t sum = 0xffffffffu;
  std::size_t n = 0;
  for (; n + 8 <= count; n += 8) {
    std::uint32_t next = 0;
    for (int k = 0; k < 4; ++k) {
      next ^= tables[7 - k][(byte(n + k) ^ (sum >> (8 * k))) & 255];
      next ^= tables[3 - k][byte(n + 4 + k)];
    }
    sum = next;
  }
  for (; n < count; ++n) sum = (sum >> 8) ^ tables[0][(sum ^ byte(n)) & 255];
  return ~sum;
}

}  // namespace fxfast
