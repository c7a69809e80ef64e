// The sampler: tables of every instruction set, the order of windows, lanes, the ring's threads.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "allocation_counter.h"
#include "base/check.h"
#include "kernels/choose_isa.h"
#include "sampler/batch_ring.h"
#include "sampler/lane_batches.h"
#include "sampler/page_buffer.h"
#include "sampler/window_batches.h"
#include "testing.h"

namespace {

using namespace fxfast;

std::vector<const GatherTable*> tables() {
  std::vector<const GatherTable*> found;
  for (const KernelTable* kernels : built_kernels()) {
    if (machine_supports(*kernels)) found.push_back(&choose_gather(kernels->name));
  }
  return found;
}

TEST(every_machine_table_is_found_by_its_name) {
  std::set<std::string> names;
  for (const GatherTable* table : tables()) names.insert(table->name);
  CHECK(names.size() == tables().size());
  CHECK(names.count("reference") == 1);
}

TEST(feistel_networks_agree_with_the_reference) {
  for (int bits : {12, 13, 25, 40, 62}) {
    const FeistelKeys keys{{1, 0xffffffffu, 3, 77, 0x80000000u, 5}, bits - bits / 2, bits / 2};
    for (std::size_t count : {0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 64, 65, 1000}) {
      std::vector<std::uint64_t> expected(count);
      for (std::size_t i = 0; i < count; ++i) {
        expected[i] = (i * 0x9E3779B97F4A7C15u) >> (64 - bits);
      }
      const std::vector<std::uint64_t> positions = expected;
      reference_gather().feistel(keys, expected.data(), count);
      for (const GatherTable* table : tables()) {
        std::vector<std::uint64_t> values = positions;
        table->feistel(keys, values.data(), count);
        CHECK(values == expected);
      }
    }
  }
}

// Rows that overlap, at odd places, shorter and longer than what is asked for ahead.
template <typename Sample>
void check_gather(bool is_int16) {
  std::vector<Sample> audio(20'000);
  for (std::size_t i = 0; i < audio.size(); ++i) {
    audio[i] = static_cast<Sample>(static_cast<int>(i * 31 % 65536) - 32768);
  }
  for (std::size_t length : {0, 1, 3, 7, 8, 9, 63, 64, 65, 1000, 1535, 1537, 3100, 6000}) {
    for (std::size_t count : {1, 2, 5, 40}) {
      std::vector<const void*> rows;
      for (std::size_t r = 0; r < count; ++r) rows.push_back(&audio[r * 331 % 13'000 + r]);
      const std::size_t stride = length + 3;
      std::vector<float> expected(count * stride, -1.0f);
      const auto gather_of = [is_int16](const GatherTable& t) {
        return is_int16 ? t.gather_int16 : t.gather_float;
      };
      gather_of(reference_gather())(rows.data(), count, length, expected.data(), stride);
      for (const GatherTable* table : tables()) {
        std::vector<float> out(count * stride, -1.0f);
        gather_of (*table)(rows.data(), count, length, out.data(), stride);
        CHECK(out == expected);
      }
    }
  }
}

TEST(gathering_agrees_with_the_reference) {
  check_gather<float>(false);
  check_gather<std::int16_t>(true);
}

// A dataset whose samples tell where they are.
struct Audio {
  explicit Audio(const std::vector<std::int64_t>& lengths) {
    std::size_t total = 0;
    for (std::int64_t length : lengths) total += static_cast<std::size_t>(length);
    samples.resize(total);
    for (std::size_t i = 0; i < total; ++i) samples[i] = static_cast<float>(i);
    std::int64_t file = 0, at = 0;
    for (std::int64_t length : lengths) {
      spans.list.push_back({&samples[0] + at, &samples[0] + at, length, file++, 0});
      at += length;
    }
  }
  std::vector<float> samples;
  Spans spans;
};

struct Buffers {
  Buffers(std::size_t count, std::size_t floats, std::size_t integers)
      : memory(count * 4 * floats), info(count * integers), slots(count) {
    for (std::size_t s = 0; s < count; ++s) {
      slots[s].x = &memory[4 * s * floats];
      slots[s].y = slots[s].x + floats;
      slots[s].mask = slots[s].y + floats;
      slots[s].knobs = slots[s].mask + floats;
      slots[s].info = &info[s * integers];
    }
  }
  std::vector<float> memory;
  std::vector<std::int64_t> info;
  std::vector<BatchSlot> slots;
};

std::unique_ptr<BatchRing> window_ring(const Audio& audio, Buffers& buffers, int threads) {
  const WindowSettings settings{.length = 8, .stride = 1, .run = 3, .seed = 5};
  const BatchShape shape{.batch = 12, .last = LastBatch::kShort};
  auto source =
      std::make_shared<WindowBatches>(audio.spans, settings, shape, Knobs{}, choose_gather(""));
  return std::make_unique<BatchRing>(std::move(source), buffers.slots, threads,
                                     buffers.slots.size() - 2);
}

// All batches of the rest of an epoch: ids and audio.
std::vector<float> drained(BatchRing& ring) {
  std::vector<float> out;
  for (std::int64_t index = ring.take(); index >= 0; index = ring.take()) {
    const BatchSlot& slot = ring.slot(index);
    for (std::int64_t r = 0; r < slot.rows; ++r) {
      out.push_back(static_cast<float>(slot.info[r]));
      out.insert(out.end(), slot.x + 8 * r, slot.x + 8 * (r + 1));
      out.push_back(slot.y[r]);
    }
  }
  return out;
}

TEST(threads_and_slots_change_nothing) {
  const Audio audio({500, 3, 90, 8});
  Buffers single(3, 12 * 8, 12);
  const std::vector<float> expected = drained(*window_ring(audio, single, 0));
  CHECK(expected.size() == (493 + 83 + 1) * 10);
  for (int threads : {1, 2, 4}) {
    for (std::size_t slots : {3, 4, 16, 64}) {
      Buffers buffers(slots, 12 * 8, 12);
      const auto ring = window_ring(audio, buffers, threads);
      for (int round = 0; round < 3; ++round) {
        CHECK(drained(*ring) == expected);
        ring->seek(0, 0);
      }
    }
  }
}

TEST(a_ring_stops_and_seeks_at_any_moment) {
  const Audio audio({2000});
  Buffers single(3, 12 * 8, 12), buffers(9, 12 * 8, 12);
  const auto plain = window_ring(audio, single, 0), ring = window_ring(audio, buffers, 3);
  for (std::uint64_t stop = 0; stop < 100; stop += 7) {
    for (const std::uint64_t epoch : {0, 3}) {
      ring->seek(epoch, stop);
      plain->seek(epoch, stop);
      for (std::uint64_t i = 0; i < stop % 5; ++i) {
        CHECK(plain->slot(plain->take()).info[0] == ring->slot(ring->take()).info[0]);
      }
      CHECK(ring->position() == stop + stop % 5);
    }
    if (stop % 3 == 0) ring->rest();
    CHECK(drained(*ring) == drained(*plain));
    CHECK(ring->take() == -1);
  }
}

TEST(taking_a_batch_allocates_nothing) {
  const Audio audio({4000, 7, 300});
  Buffers buffers(6, 12 * 8, 12);
  const auto ring = window_ring(audio, buffers, 0);
  const long before = testing::allocations();
  for (int i = 0; i < 200; ++i) CHECK(ring->take() >= 0);
  CHECK(testing::allocations() == before);
}

TEST(a_batch_stays_while_two_more_are_taken) {
  const Audio audio({4000});
  Buffers buffers(6, 12 * 8, 12);
  const auto ring = window_ring(audio, buffers, 3);
  std::vector<std::vector<std::int64_t>> copies;
  std::vector<std::int64_t> taken;
  for (std::int64_t index = ring->take(); index >= 0; index = ring->take()) {
    const std::int64_t* info = ring->slot(index).info;
    taken.push_back(index);
    copies.emplace_back(info, info + ring->slot(index).rows);
    if (copies.size() < 2) continue;
    const BatchSlot& before = ring->slot(taken[taken.size() - 2]);
    CHECK(std::equal(copies[copies.size() - 2].begin(), copies[copies.size() - 2].end(),
                     before.info));
  }
}

// The thread sanitizer cannot follow threads that a forked child starts.
#ifndef __SANITIZE_THREAD__
TEST(a_ring_works_in_a_forked_child) {
  const Audio audio({900});
  Buffers buffers(8, 12 * 8, 12);
  const auto ring = window_ring(audio, buffers, 2);
  const std::vector<float> expected = drained(*ring);
  ring->seek(0, 0);
  ring->take();
  const pid_t child = fork();
  if (child == 0) {
    ring->seek(0, 0);
    _exit(drained(*ring) == expected ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  ring->seek(0, 0);
  CHECK(drained(*ring) == expected);
}
#endif

TEST(filling_does_not_depend_on_who_fills_lanes) {
  const Audio audio({500, 37, 220});
  const LaneSettings settings{.lanes = 5, .segment = 60, .chunk = 20, .warm_up = 7, .seed = 3};
  const auto make = [&](Buffers& buffers, int threads) {
    auto source = std::make_shared<LaneBatches>(audio.spans, settings, Knobs{}, choose_gather(""));
    return BatchRing(std::move(source), buffers.slots, threads, 4);
  };
  Buffers one(6, 5 * 27, 5 * LaneBatches::kColumns), two(6, 5 * 27, 5 * LaneBatches::kColumns);
  BatchRing plain = make(one, 0), ring = make(two, 2);
  for (std::int64_t index = plain.take(); index >= 0; index = plain.take()) {
    const BatchSlot &a = plain.slot(index), &b = ring.slot(ring.take());
    CHECK(std::memcmp(a.x, b.x, 5 * 27 * sizeof(float)) == 0);
    CHECK(std::memcmp(a.info, b.info, 5 * LaneBatches::kColumns * sizeof(a.info[0])) == 0);
  }
  CHECK(ring.take() == -1);
}

TEST(impossible_shapes_are_errors) {
  const Audio audio({50});
  const auto make = [&](WindowSettings settings, BatchShape shape) {
    return WindowBatches(audio.spans, settings, shape, Knobs{}, reference_gather());
  };
  CHECK_THROWS(make({.length = 0}, {}), InputError, "length: expected at least 1");
  CHECK_THROWS(make({.length = 4}, {.out_length = 5}), InputError, "out_length: expected at most");
  CHECK_THROWS(make({}, {.batch = 3, .ranks = 2}), InputError, "batch_size: expected a positive");
  CHECK_THROWS(LaneOrder({50}, {.segment = 5, .chunk = 2}), InputError, "segment: expected");
  CHECK_THROWS(KeyedPermutation(UINT64_MAX, 0, 0), InputError, "permutation: expected at most");
}

TEST(page_buffers_are_zero_and_on_pages) {
  for (std::size_t bytes : {std::size_t{1}, std::size_t{5000}, std::size_t{5} << 20}) {
    PageBuffer buffer(bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % 4096 == 0);
    CHECK(buffer.size() == bytes);
    CHECK(buffer.data()[0] == std::byte{0});
    buffer.data()[bytes - 1] = std::byte{1};
  }
}

}  // namespace
