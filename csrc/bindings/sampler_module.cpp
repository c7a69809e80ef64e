// The sampler for Python: fxfast.data checks what it passes; here addresses are taken as they are,
// and the interpreter lock is released while batches are made or waited for.
#include "bindings/sampler_module.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "sampler/batch_ring.h"
#include "sampler/lane_batches.h"
#include "sampler/page_buffer.h"
#include "sampler/permutation.h"
#include "sampler/window_batches.h"

namespace py = pybind11;

namespace fxfast {
namespace {

using Integers = py::array_t<std::int64_t, py::array::c_style>;

void require_columns(const char* name, const Integers& array, py::ssize_t columns) {
  if (array.ndim() != 2 || array.shape(1) != columns) {
    throw InputError(std::string(name) + ": expected " + std::to_string(columns) + " columns");
  }
}

template <typename T>
T* pointer(std::int64_t address) {
  return reinterpret_cast<T*>(static_cast<std::uintptr_t>(address));
}

// Rows of dry address, wet address, length, file, start.
Spans spans_of(const Integers& rows, bool is_int16) {
  require_columns("spans", rows, 5);
  Spans spans;
  spans.is_int16 = is_int16;
  spans.list.reserve(static_cast<std::size_t>(rows.shape(0)));
  for (py::ssize_t r = 0; r < rows.shape(0); ++r) {
    const std::int64_t* row = rows.data(r, 0);
    spans.list.push_back({pointer<void>(row[0]), pointer<void>(row[1]), row[2], row[3], row[4]});
  }
  return spans;
}

// Rows of the addresses of x, y, mask, knobs and info; 0 for none.
std::vector<BatchSlot> slots_of(const Integers& rows) {
  require_columns("slots", rows, 5);
  std::vector<BatchSlot> slots;
  for (py::ssize_t r = 0; r < rows.shape(0); ++r) {
    const std::int64_t* row = rows.data(r, 0);
    slots.push_back({pointer<float>(row[0]), pointer<float>(row[1]), pointer<float>(row[2]),
                     pointer<float>(row[3]), pointer<std::int64_t>(row[4]), 0});
  }
  return slots;
}

LastBatch last_of(const std::string& name) {
  if (name == "drop") return LastBatch::kDrop;
  if (name == "short") return LastBatch::kShort;
  if (name == "wrap") return LastBatch::kWrap;
  throw InputError("last: expected drop, short or wrap, got '" + name + "'");
}

WindowSettings window_settings(const py::dict& values) {
  WindowSettings settings;
  settings.length = values["length"].cast<std::uint64_t>();
  settings.stride = values["stride"].cast<std::uint64_t>();
  settings.run = values["run"].cast<std::uint64_t>();
  settings.seed = values["seed"].cast<std::uint64_t>();
  settings.replacement = values["replacement"].cast<bool>();
  return settings;
}

BatchShape batch_shape(const py::dict& values) {
  BatchShape shape;
  shape.batch = values["batch_size"].cast<std::uint64_t>();
  shape.rank = values["rank"].cast<std::uint64_t>();
  shape.ranks = values["world_size"].cast<std::uint64_t>();
  shape.last = last_of(values["last"].cast<std::string>());
  shape.out_length = values["out_length"].cast<std::uint64_t>();
  return shape;
}

LaneSettings lane_settings(const py::dict& values) {
  LaneSettings settings;
  settings.lanes = values["lanes"].cast<std::uint64_t>();
  settings.segment = values["segment"].cast<std::uint64_t>();
  settings.chunk = values["chunk"].cast<std::uint64_t>();
  settings.warm_up = values["warmup"].cast<std::uint64_t>();
  settings.seed = values["seed"].cast<std::uint64_t>();
  settings.stagger = values["stagger"].cast<bool>();
  settings.rank = values["rank"].cast<std::uint64_t>();
  settings.ranks = values["world_size"].cast<std::uint64_t>();
  return settings;
}

Knobs knobs_of(std::int64_t address, std::size_t count) {
  return {pointer<const float>(address), count};
}

// The ids at positions [first, first + count) of an epoch.
py::array_t<std::int64_t> ids(WindowOrder& order, std::uint64_t epoch, std::uint64_t first,
                              std::uint64_t count, const std::string& isa) {
  const GatherTable& table = choose_gather(isa.c_str());
  if (first > order.windows() || count > order.windows() - first) {
    throw InputError("positions: expected at most " + std::to_string(order.windows()) + ", got " +
                     std::to_string(first) + " and " + std::to_string(count) + " more");
  }
  order.set_epoch(epoch);
  py::array_t<std::int64_t> out(static_cast<py::ssize_t>(count));
  Workspace work;
  for (std::uint64_t done = 0; done < count;) {
    const auto part =
        static_cast<std::size_t>(std::min<std::uint64_t>(count - done, Workspace::kRows));
    order.ids(table, first + done, part, work.ids.data(), work.scratch.data());
    for (std::size_t i = 0; i < part; ++i) {
      out.mutable_at(static_cast<py::ssize_t>(done + i)) = static_cast<std::int64_t>(work.ids[i]);
    }
    done += part;
  }
  return out;
}

// The keyed permutation of 0 .. n-1 at some positions.
py::array_t<std::int64_t> permutation(std::uint64_t n, std::uint64_t seed, std::uint64_t epoch,
                                      const Integers& positions, const std::string& isa) {
  const KeyedPermutation keyed(n, seed, epoch);
  const auto count = static_cast<std::size_t>(positions.size());
  std::vector<std::uint64_t> values(count), scratch(2 * count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = static_cast<std::uint64_t>(positions.data()[i]);
    if (values[i] >= n) throw InputError("position: expected 0 to below " + std::to_string(n));
  }
  keyed.map(choose_gather(isa.c_str()), values.data(), count, scratch.data());
  py::array_t<std::int64_t> out(positions.size());
  std::copy(values.begin(), values.end(), out.mutable_data());
  return out;
}

std::int64_t take(BatchRing& ring) {
  if (ring.is_ready()) return ring.take();
  py::gil_scoped_release release;
  return ring.take();
}

void bind_orders(py::module_& module) {
  py::class_<WindowOrder>(module, "WindowOrder")
      .def(py::init([](const std::vector<std::int64_t>& lengths, const py::dict& settings) {
             return std::make_unique<WindowOrder>(lengths, window_settings(settings));
           }),
           py::arg("lengths"), py::arg("settings"))
      .def_property_readonly("windows", &WindowOrder::windows)
      .def_property_readonly("memory_bytes", &WindowOrder::memory_bytes)
      .def("ids", &ids, py::arg("epoch"), py::arg("first"), py::arg("count"), py::arg("isa") = "")
      .def("locate", [](const WindowOrder& order, std::uint64_t id) {
        if (id >= order.windows()) {
          throw InputError("id: expected 0 to below " + std::to_string(order.windows()) + ", got " +
                           std::to_string(id));
        }
        const WindowOrder::Place place = order.locate(id);
        return py::make_tuple(place.span, place.window * order.settings().stride);
      });
  py::class_<LaneOrder>(module, "LaneOrder")
      .def(py::init([](const std::vector<std::int64_t>& lengths, const py::dict& settings) {
             return std::make_unique<LaneOrder>(lengths, lane_settings(settings));
           }),
           py::arg("lengths"), py::arg("settings"))
      .def("set_epoch", &LaneOrder::set_epoch, py::arg("epoch"))
      .def_property_readonly("steps", &LaneOrder::steps)
      .def_property_readonly("memory_bytes", &LaneOrder::memory_bytes)
      .def("chunk", [](const LaneOrder& order, std::uint64_t step, std::uint64_t lane) {
        const LaneChunk c = order.chunk(step, lane);
        return py::make_tuple(c.lane, c.span, c.start, c.valid, c.reset, c.warm_up);
      });
  module.def("permutation", &permutation, py::arg("n"), py::arg("seed"), py::arg("epoch"),
             py::arg("positions"), py::arg("isa") = "");
  module.def("random_word", &random_word, py::arg("seed"), py::arg("epoch"), py::arg("position"));
}

void bind_sources(py::module_& module) {
  py::class_<BatchSource, std::shared_ptr<BatchSource>>(module, "BatchSource")
      .def_property_readonly("batches", &BatchSource::batches)
      .def_property_readonly("memory_bytes", &BatchSource::memory_bytes);
  py::class_<WindowBatches, BatchSource, std::shared_ptr<WindowBatches>>(module, "WindowBatches")
      .def(py::init([](const Integers& spans, bool is_int16, std::int64_t knobs, std::size_t count,
                       const py::dict& settings, const std::string& isa) {
        return std::make_shared<WindowBatches>(spans_of(spans, is_int16), window_settings(settings),
                                               batch_shape(settings), knobs_of(knobs, count),
                                               choose_gather(isa.c_str()));
      }))
      .def_property_readonly("windows", [](const WindowBatches& b) { return b.order().windows(); });
  py::class_<BlockBatches, WindowBatches, std::shared_ptr<BlockBatches>>(module, "BlockBatches")
      .def(py::init([](const Integers& spans, bool is_int16, std::int64_t knobs, std::size_t count,
                       const py::dict& settings, const std::string& isa) {
        return std::make_shared<BlockBatches>(spans_of(spans, is_int16), window_settings(settings),
                                              batch_shape(settings), knobs_of(knobs, count),
                                              choose_gather(isa.c_str()));
      }))
      .def_property_readonly("max_rows", &BlockBatches::max_rows);
  py::class_<LaneBatches, BatchSource, std::shared_ptr<LaneBatches>>(module, "LaneBatches")
      .def(py::init([](const Integers& spans, bool is_int16, std::int64_t knobs, std::size_t count,
                       const py::dict& settings, const std::string& isa) {
        return std::make_shared<LaneBatches>(spans_of(spans, is_int16), lane_settings(settings),
                                             knobs_of(knobs, count), choose_gather(isa.c_str()));
      }));
}

}  // namespace

void bind_sampler(py::module_& module) {
  bind_orders(module);
  bind_sources(module);
  // `owner` keeps the audio and the slots' memory alive as long as threads may touch them.
  py::class_<BatchRing>(module, "BatchRing")
      .def(py::init([](std::shared_ptr<BatchSource> source, const Integers& slots, int threads,
                       std::size_t ahead, const py::object&) {
             return std::make_unique<BatchRing>(std::move(source), slots_of(slots), threads, ahead);
           }),
           py::arg("source"), py::arg("slots"), py::arg("threads"), py::arg("ahead"),
           py::arg("owner"), py::keep_alive<1, 6>())
      .def("take", &take)
      .def("rows", [](const BatchRing& ring, std::int64_t slot) { return ring.slot(slot).rows; })
      .def("seek", &BatchRing::seek, py::arg("epoch"), py::arg("position"), py::arg("step") = 1)
      .def("rest", &BatchRing::rest)
      .def_property_readonly("epoch", &BatchRing::epoch)
      .def_property_readonly("position", &BatchRing::position)
      .def_property_readonly("batches", &BatchRing::batches)
      .def_property_readonly("memory_bytes", &BatchRing::memory_bytes);
  py::class_<PageBuffer>(module, "PageBuffer", py::buffer_protocol())
      .def(py::init<std::size_t>(), py::arg("bytes"))
      .def_buffer([](PageBuffer& buffer) {
        return py::buffer_info(reinterpret_cast<std::uint8_t*>(buffer.data()),
                               static_cast<py::ssize_t>(buffer.size()));
      });
}

}  // namespace fxfast
