// fxfast._native: the engine for Python, without torch. Arrays are checked here, once; the
// interpreter lock is released while the engine works.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "base/check.h"
#include "base/finite.h"
#include "bindings/audio_module.h"
#include "bindings/library_module.h"
#include "bindings/op_tuples.h"
#include "bindings/sampler_module.h"
#include "engine/cuda_plan.h"
#include "engine/render_array.h"
#include "engine/run_block.h"
#include "kernels/choose_isa.h"

namespace py = pybind11;

namespace fxfast {
namespace {

void require_finite(const Floats& x) {
  const std::ptrdiff_t bad = first_non_finite(x.data(), static_cast<std::size_t>(x.size()));
  if (bad < 0) return;
  const std::ptrdiff_t samples = x.shape(x.ndim() - 1);
  throw InputError("audio: expected finite samples, got NaN or infinity in row " +
                   std::to_string(bad / samples) + " at sample " + std::to_string(bad % samples));
}

void require_rows(const Floats& x, py::ssize_t rows) {
  if (x.ndim() != 2 || (rows >= 0 && x.shape(0) != rows)) {
    throw InputError("audio: expected a (" + (rows < 0 ? "rows" : std::to_string(rows)) +
                     ", samples) array, got " + std::to_string(x.ndim()) + " dimensions of " +
                     std::to_string(x.size()) + " values");
  }
  require_finite(x);
}

// Knobs of one value each, (knobs), or of one for each of `samples`, (knobs, samples).
KnobRows rows_of(const std::optional<Floats>& knobs, std::size_t count, py::ssize_t samples) {
  if (!knobs) return {};
  const bool held = knobs->ndim() == 1;
  if ((!held && (knobs->ndim() != 2 || knobs->shape(1) != samples)) ||
      knobs->shape(0) != static_cast<py::ssize_t>(count)) {
    throw InputError("knobs: expected " + std::to_string(count) + " values or rows of " +
                     std::to_string(samples) + ", got " + std::to_string(knobs->ndim()) +
                     " dimensions of " + std::to_string(knobs->size()) + " values");
  }
  if (first_non_finite(knobs->data(), static_cast<std::size_t>(knobs->size())) >= 0) {
    throw InputError("knobs: expected finite values, got NaN or infinity");
  }
  return {knobs->data(), held ? 0 : static_cast<std::size_t>(samples)};
}

std::vector<float> first_of(const KnobRows& rows, std::size_t count, py::ssize_t samples) {
  std::vector<float> values(count, 0.0f);
  if (rows.values == nullptr || samples == 0) return values;
  for (std::size_t k = 0; k < count; ++k) {
    values[k] = rows.values[rows.stride == 0 ? k : k * rows.stride];
  }
  return values;
}

// A plan, the kernels that run it, its settled state and the threads for whole arrays.
class Engine {
 public:
  Engine(AlignedBuffer plan, const std::string& isa, int threads)
      : bytes_(std::move(plan)),
        plan_(bytes_.data(), bytes_.size()),
        kernels_(choose_kernels(isa.c_str())),
        settled_(settled({})),
        pool_(threads) {}

  const PlanView& plan() const { return plan_; }
  const KernelTable& kernels() const { return kernels_; }
  // The settled state with all knobs at zero, and with others.
  const AlignedBuffer& settled() const { return settled_; }
  AlignedBuffer settled(const std::vector<float>& knobs) const {
    AlignedBuffer state(plan_.state_bytes());
    settle(plan_, kernels_, state.data(), knobs.empty() ? nullptr : knobs.data());
    return state;
  }
  const AlignedBuffer& plan_bytes() const { return bytes_; }
  int threads() const { return pool_.threads(); }

  Floats render(const Floats& x, const std::optional<Floats>& knobs) {
    require_rows(x, -1);
    const KnobRows rows_of_knobs = rows_of(knobs, plan_.knobs(), x.shape(1));
    const std::vector<float> first = first_of(rows_of_knobs, plan_.knobs(), x.shape(1));
    Floats y({x.shape(0), x.shape(1)});
    const float* in = x.data();
    float* out = y.mutable_data();
    const auto rows = static_cast<std::size_t>(x.shape(0));
    const auto samples = static_cast<std::size_t>(x.shape(1));
    py::gil_scoped_release release;
    // One of several calls at once finds the kept states free.
    const std::unique_lock lock(kept_mutex_, std::try_to_lock);
    std::vector<AlignedBuffer>* kept = lock.owns_lock() ? &kept_ : nullptr;
    if (knobs) {
      const AlignedBuffer start = settled(first);
      render_array(plan_, kernels_, start.data(), pool_, in, out, rows, samples, kept,
                   rows_of_knobs);
    } else {
      render_array(plan_, kernels_, settled_.data(), pool_, in, out, rows, samples, kept);
    }
    return y;
  }

 private:
  AlignedBuffer bytes_;
  PlanView plan_;
  const KernelTable& kernels_;
  AlignedBuffer settled_;
  WorkerPool pool_;
  std::mutex kept_mutex_;
  std::vector<AlignedBuffer> kept_;
};

// A channel of a stream and how many samples its block has.
struct Lane {
  BatchStream stream;
  std::size_t samples;
};

// Lanes of different lengths: all of them for as long as the shortest lasts, then those that go on.
void run_lanes(const PlanView& plan, const KernelTable& kernels, std::vector<Lane> lanes) {
  // A grid takes whole blocks; what is not recurrent gains nothing from neighbours.
  if (plan.has_grid() || !plan.is_recurrent()) {
    for (const Lane& lane : lanes) run_block_batch(plan, kernels, &lane.stream, 1, lane.samples);
    return;
  }
  std::sort(lanes.begin(), lanes.end(),
            [](const Lane& a, const Lane& b) { return a.samples < b.samples; });
  std::vector<BatchStream> batch;
  for (const Lane& lane : lanes) batch.push_back(lane.stream);
  std::size_t done = 0;
  for (std::size_t first = 0; first < lanes.size(); ++first) {
    const std::size_t samples = lanes[first].samples - done;
    if (samples == 0) continue;
    run_block_batch(plan, kernels, batch.data() + first, batch.size() - first, samples);
    for (BatchStream& stream : batch) {
      stream.input += samples, stream.output += samples;
      stream.knobs = stream.knobs.after(samples);
    }
    done += samples;
  }
}

// The state of `channels` independent streams through one engine.
class Stream {
 public:
  Stream(std::shared_ptr<Engine> engine, int channels, const std::optional<Floats>& knobs)
      : engine_(std::move(engine)), channels_(channels) {
    if (channels < 1) {
      throw InputError("channels: expected at least 1, got " + std::to_string(channels));
    }
    if (knobs) {
      start_ = held_ = first_of(rows_of(knobs, engine_->plan().knobs(), 1), knob_count(), 1);
      settled_.emplace(engine_->settled(held_));
    }
    states_ = AlignedBuffer(state_bytes() * static_cast<std::size_t>(channels));
    reset();
  }

  void reset() {
    const std::byte* settled = settled_ ? settled_->data() : engine_->settled().data();
    for (int c = 0; c < channels_; ++c) std::memcpy(state(c), settled, state_bytes());
    held_ = start_;
  }

  // The next block, of shape (channels, T), or (T) for one channel; the output has that shape.
  // None, and nothing is changed, for any other shape, type or layout: the caller says which.
  // Without `knobs` they stay where they were.
  py::object process(const py::array& any, const std::optional<Floats>& knobs) {
    const bool is_row = any.ndim() == 1 && channels_ == 1;
    if (!(is_row || (any.ndim() == 2 && any.shape(0) == channels_)) || !Floats::check_(any)) {
      return py::none();
    }
    const auto x = py::reinterpret_borrow<Floats>(any);
    require_finite(x);
    const py::ssize_t length = x.shape(x.ndim() - 1);
    const KnobRows rows = knobs ? rows_of(knobs, knob_count(), length) : held();
    const auto samples = static_cast<std::size_t>(length);
    for (int c = 0; c < channels_; ++c) check_block(engine_->plan(), state(c), samples);
    Floats y(py::array::ShapeContainer(x.shape(), x.shape() + x.ndim()));
    run(x.data(), y.mutable_data(), rows, samples);
    if (knobs && samples > 0) {
      const std::size_t last = rows.stride == 0 ? 0 : samples - 1;
      held_ = first_of({rows.values + last, rows.stride}, knob_count(), 1);
    }
    return std::move(y);
  }

  // The next block of each of several streams of one engine, of any lengths. Nothing is changed
  // when one of them is refused.
  static std::vector<Floats> process_together(const std::vector<Stream*>& streams,
                                              const std::vector<Floats>& blocks) {
    if (streams.empty() || streams.size() != blocks.size()) {
      throw InputError("blocks: expected one for each stream, got " +
                       std::to_string(blocks.size()) + " for " + std::to_string(streams.size()));
    }
    std::vector<Floats> outputs;
    std::vector<Lane> lanes;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      Stream& stream = *streams[i];
      require_rows(blocks[i], stream.channels_);
      const auto samples = static_cast<std::size_t>(blocks[i].shape(1));
      if (stream.engine_ != streams[0]->engine_ ||
          std::count(streams.begin(), streams.end(), streams[i]) > 1) {
        throw InputError("streams: expected different streams of one player");
      }
      outputs.emplace_back(Floats({blocks[i].shape(0), blocks[i].shape(1)}));
      for (int c = 0; c < stream.channels_; ++c) {
        const std::size_t at = static_cast<std::size_t>(c) * samples;
        check_block(stream.engine_->plan(), stream.state(c), samples);
        lanes.push_back({{stream.state(c), blocks[i].data() + at, outputs[i].mutable_data() + at,
                          stream.held()},
                         samples});
      }
    }
    const Engine& engine = *streams[0]->engine_;
    py::gil_scoped_release release;
    run_lanes(engine.plan(), engine.kernels(), std::move(lanes));
    return outputs;
  }

  py::bytes save() const {
    return py::bytes(reinterpret_cast<const char*>(states_.data()), states_.size());
  }

  void restore(const py::bytes& saved) {
    const std::string_view bytes = saved;
    if (bytes.size() != states_.size()) {
      throw InputError("state: expected " + std::to_string(states_.size()) + " bytes for " +
                       std::to_string(channels_) + " channels, got " +
                       std::to_string(bytes.size()));
    }
    const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
    for (int c = 0; c < channels_; ++c) {
      check_state(engine_->plan(), data + static_cast<std::size_t>(c) * state_bytes(),
                  state_bytes());
    }
    std::memcpy(states_.data(), data, states_.size());
  }

  int channels() const { return channels_; }

 private:
  std::size_t state_bytes() const { return engine_->plan().state_bytes(); }
  std::size_t knob_count() const { return engine_->plan().knobs(); }
  KnobRows held() const { return {held_.empty() ? nullptr : held_.data(), 0}; }
  void run(const float* in, float* out, const KnobRows& rows, std::size_t samples) {
    const py::gil_scoped_release release;
    if (channels_ == 1) {
      const BatchStream stream = {state(0), in, out, rows};
      return run_block_batch(engine_->plan(), engine_->kernels(), &stream, 1, samples);
    }
    std::vector<BatchStream> batch;
    for (int c = 0; c < channels_; ++c, in += samples, out += samples) {
      batch.push_back({state(c), in, out, rows});
    }
    run_block_batch(engine_->plan(), engine_->kernels(), batch.data(), batch.size(), samples);
  }

  std::byte* state(int c) { return states_.data() + static_cast<std::size_t>(c) * state_bytes(); }

  std::shared_ptr<Engine> engine_;
  int channels_;
  std::vector<float> start_, held_;  // the knobs at the start and now; empty: zeros
  std::optional<AlignedBuffer> settled_;
  AlignedBuffer states_;
};

py::array_t<std::uint8_t> bytes_array(const AlignedBuffer& buffer) {
  py::array_t<std::uint8_t> out(static_cast<py::ssize_t>(buffer.size()));
  std::memcpy(out.mutable_data(), buffer.data(), buffer.size());
  return out;
}

// Runs multiply-adds on registers for at least `seconds`; gives how many floating-point operations
// that were.
double run_multiply_adds(const std::string& isa, double seconds) {
  const KernelTable& kernels = choose_kernels(isa.c_str());
  using Clock = std::chrono::steady_clock;
  py::gil_scoped_release release;
  constexpr std::int64_t kRounds = 200'000;
  const std::chrono::duration<double> wanted(seconds);
  double operations = 0.0;
  const auto start = Clock::now();
  do {
    operations += kernels.multiply_add_burst(kRounds);
  } while (Clock::now() - start < wanted);
  return operations;
}

template <typename Error>
void translate(std::exception_ptr pointer, const char* class_name) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const Error& error) {
    const py::object type = py::module_::import("fxfast.errors").attr(class_name);
    PyErr_SetString(type.ptr(), error.what());
  }
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "The fxfast engine (see fxfast.player for the public interface).";
  py::register_exception_translator(
      [](std::exception_ptr p) { translate<InputError>(p, "InputError"); });
  py::register_exception_translator(
      [](std::exception_ptr p) { translate<ModelError>(p, "ModelError"); });
  py::register_exception_translator(
      [](std::exception_ptr p) { translate<IsaError>(p, "BuildError"); });

  py::class_<Engine, std::shared_ptr<Engine>>(module, "Engine")
      .def(py::init([](const std::vector<int>& lines, const std::vector<OpTuple>& ops,
                       std::uint32_t output_line, const std::string& isa, int threads,
                       bool is_offline) {
             const Program program = program_of(lines, ops, output_line);
             return std::make_shared<Engine>(pack_plan(program, {is_offline, {}, false}), isa,
                                             threads);
           }),
           py::arg("lines"), py::arg("ops"), py::arg("output_line"), py::arg("isa"),
           py::arg("threads"), py::arg("is_offline"))
      .def("render", &Engine::render, py::arg("x").noconvert(),
           py::arg("knobs").noconvert() = py::none())
      .def_property_readonly("warm_up_samples",
                             [](const Engine& e) { return e.plan().warm_up_samples(); })
      .def_property_readonly("alignment_samples",
                             [](const Engine& e) { return e.plan().alignment_samples(); })
      .def_property_readonly("isa", [](const Engine& e) { return e.kernels().name; })
      .def_property_readonly("threads", &Engine::threads)
      .def_property_readonly("grid_samples",
                             [](const Engine& e) { return e.plan().grid_samples(); })
      .def_property_readonly("state_bytes", [](const Engine& e) { return e.settled().size(); })
      .def("plan", [](const Engine& e) { return bytes_array(e.plan_bytes()); })
      .def("settled_state", [](const Engine& e) { return bytes_array(e.settled()); });
  py::class_<Stream>(module, "Stream")
      .def(py::init<std::shared_ptr<Engine>, int, const std::optional<Floats>&>(),
           py::arg("engine"), py::arg("channels"), py::arg("knobs").noconvert() = py::none())
      .def("process", &Stream::process, py::arg("x"), py::arg("knobs").noconvert() = py::none())
      .def_static("process_together", &Stream::process_together, py::arg("streams"),
                  py::arg("blocks").noconvert())
      .def("reset", &Stream::reset)
      .def("save", &Stream::save)
      .def("restore", &Stream::restore, py::arg("state"))
      .def_property_readonly("channels", &Stream::channels);
  module.attr("NO_LINE") = kNoLine;
  module.def("isas", [] {
    std::vector<std::pair<std::string, bool>> out;
    for (const KernelTable* t : built_kernels()) out.emplace_back(t->name, machine_supports(*t));
    return out;
  });
  module.def(
      "chosen_isa", [](const std::string& isa) { return choose_kernels(isa.c_str()).name; },
      py::arg("isa") = "");
  module.def(
      "require_finite", [](const Floats& x) { require_rows(x, -1); }, py::arg("x").noconvert());
  module.def(
      "cuda_plan",
      [](const std::vector<int>& lines, const std::vector<OpTuple>& ops, std::uint32_t output_line,
         int shared_bytes, int major) {
        const Program program = program_of(lines, ops, output_line);
        return bytes_array(pack_cuda_plan(program, choose_kernels(""), {shared_bytes, major}));
      },
      py::arg("lines"), py::arg("ops"), py::arg("output_line"), py::arg("shared_bytes"),
      py::arg("major"));
  module.def(
      "cuda_cells",
      [](const std::vector<int>& lines, const std::vector<OpTuple>& ops, std::uint32_t output_line,
         const std::vector<float>& knobs) {
        const Program program = program_of(lines, ops, output_line);
        return cuda_cells(program, choose_kernels(""), knobs);
      },
      py::arg("lines"), py::arg("ops"), py::arg("output_line"), py::arg("knobs"));
  bind_audio(module);
  bind_library(module);
  module.def("run_multiply_adds", &run_multiply_adds, py::arg("isa"), py::arg("seconds"));
  bind_sampler(module);
}

}  // namespace fxfast
