// torch.ops.fxfast.follow and its gradient (see fxfast/follow_ops.py); torch's stable ABI only.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <string>
#include <tuple>

#include "base/check.h"
#include "engine/follow.h"

namespace fxfast {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

void require(bool ok, const std::string& message) {
  if (!ok) throw InputError(message);
}

void require_rows(const Tensor& tensor, const std::string& name, const Tensor& x,
                  std::int64_t dimensions) {
  require(tensor.is_cpu(), name + ": expected a tensor on the CPU, got another");
  require(tensor.scalar_type() == x.scalar_type() &&
              (x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Double),
          name + ": expected float32 or float64 as x, got another dtype");
  require(tensor.dim() == dimensions, name + ": expected " + std::to_string(dimensions) +
                                          " dimensions, got " + std::to_string(tensor.dim()));
  for (std::int64_t d = 0; d < dimensions; ++d) {
    require(tensor.size(d) == x.size(d), name + ": expected the sizes of x, got " +
                                             std::to_string(tensor.size(d)) + " in dimension " +
                                             std::to_string(d));
  }
}

template <typename Real>
const Real* data_of(const Tensor& tensor) {
  return static_cast<const Real*>(tensor.const_data_ptr());
}

template <typename Real>
void follow_rows(const Tensor& x, const Tensor& start, double rise, double fall, Tensor& y) {
  const std::int64_t samples = x.size(1);
  for (std::int64_t row = 0; row < x.size(0); ++row) {
    follow(data_of<Real>(x) + row * samples, samples,
           static_cast<double>(data_of<Real>(start)[row]), rise, fall,
           static_cast<Real*>(y.mutable_data_ptr()) + row * samples);
  }
}

Tensor follow_op(const Tensor& x_any, const Tensor& start_any, double rise, double fall) {
  require_rows(x_any, "x", x_any, 2);
  require_rows(start_any, "start", x_any, 1);
  const Tensor x = torch::stable::contiguous(x_any), start = torch::stable::contiguous(start_any);
  Tensor y = torch::stable::new_empty(x, x.sizes());
  const bool is_double = x.scalar_type() == ScalarType::Double;
  (is_double ? follow_rows<double> : follow_rows<float>)(x, start, rise, fall, y);
  return y;
}

template <typename Real>
void backward_rows(const Tensor& grad_y, const Tensor& x, const Tensor& y, const Tensor& start,
                   double rise, double fall, Tensor& grad_x, Tensor& sums) {
  const std::int64_t samples = x.size(1);
  auto* sum = static_cast<Real*>(sums.mutable_data_ptr());
  for (std::int64_t row = 0; row < x.size(0); ++row) {
    const FollowSums found = follow_backward(
        data_of<Real>(grad_y) + row * samples, data_of<Real>(x) + row * samples,
        data_of<Real>(y) + row * samples, samples, static_cast<double>(data_of<Real>(start)[row]),
        rise, fall, static_cast<Real*>(grad_x.mutable_data_ptr()) + row * samples);
    sum[3 * row] = static_cast<Real>(found.start);
    sum[3 * row + 1] = static_cast<Real>(found.rise);
    sum[3 * row + 2] = static_cast<Real>(found.fall);
  }
}

std::tuple<Tensor, Tensor> follow_grad(const Tensor& grad_any, const Tensor& x_any,
                                       const Tensor& y_any, const Tensor& start_any, double rise,
                                       double fall) {
  require_rows(x_any, "x", x_any, 2);
  require_rows(grad_any, "grad_y", x_any, 2);
  require_rows(y_any, "y", x_any, 2);
  require_rows(start_any, "start", x_any, 1);
  const Tensor grad = torch::stable::contiguous(grad_any), x = torch::stable::contiguous(x_any);
  const Tensor y = torch::stable::contiguous(y_any), start = torch::stable::contiguous(start_any);
  Tensor grad_x = torch::stable::new_empty(x, x.sizes());
  Tensor sums = torch::stable::new_empty(x, {x.size(0), 3});
  const bool is_double = x.scalar_type() == ScalarType::Double;
  (is_double ? backward_rows<double> : backward_rows<float>)(grad, x, y, start, rise, fall, grad_x,
                                                             sums);
  return {grad_x, sums};
}

GateNumbers gate_numbers(double open, double close, std::int64_t hold, double rise, double fall,
                         bool exponential) {
  require(hold >= 0 && hold <= (1 << 24),
          "hold: expected 0 to 2^24 samples, got " + std::to_string(hold));
  return {open, close, static_cast<std::int32_t>(hold), rise, fall, exponential};
}

template <typename Real>
void gate_rows(const Tensor& levels, const GateNumbers& gate, Tensor& g, Tensor& way) {
  const std::int64_t samples = levels.size(1);
  for (std::int64_t row = 0; row < levels.size(0); ++row) {
    gate_ramp(data_of<Real>(levels) + row * samples, samples, gate,
              static_cast<Real*>(g.mutable_data_ptr()) + row * samples,
              static_cast<Real*>(way.mutable_data_ptr()) + row * samples);
  }
}

std::tuple<Tensor, Tensor> gate_op(const Tensor& levels_any, double open, double close,
                                   std::int64_t hold, double rise, double fall, bool exponential) {
  require_rows(levels_any, "levels", levels_any, 2);
  const Tensor levels = torch::stable::contiguous(levels_any);
  const GateNumbers gate = gate_numbers(open, close, hold, rise, fall, exponential);
  Tensor g = torch::stable::new_empty(levels, levels.sizes());
  Tensor way = torch::stable::new_empty(levels, levels.sizes());
  const bool is_double = levels.scalar_type() == ScalarType::Double;
  (is_double ? gate_rows<double> : gate_rows<float>)(levels, gate, g, way);
  return {g, way};
}

template <typename Real>
void gate_grad_rows(const Tensor& grad, const Tensor& g, const Tensor& way, const GateNumbers& gate,
                    Tensor& sums) {
  const std::int64_t samples = g.size(1);
  auto* sum = static_cast<Real*>(sums.mutable_data_ptr());
  for (std::int64_t row = 0; row < g.size(0); ++row) {
    const FollowSums found =
        gate_backward(data_of<Real>(grad) + row * samples, data_of<Real>(g) + row * samples,
                      data_of<Real>(way) + row * samples, samples, gate);
    sum[2 * row] = static_cast<Real>(found.rise);
    sum[2 * row + 1] = static_cast<Real>(found.fall);
  }
}

Tensor gate_grad(const Tensor& grad_any, const Tensor& g_any, const Tensor& way_any, double rise,
                 double fall, bool exponential) {
  require_rows(g_any, "g", g_any, 2);
  require_rows(grad_any, "grad_g", g_any, 2);
  require_rows(way_any, "way", g_any, 2);
  const Tensor grad = torch::stable::contiguous(grad_any), g = torch::stable::contiguous(g_any);
  const Tensor way = torch::stable::contiguous(way_any);
  Tensor sums = torch::stable::new_empty(g, {g.size(0), 2});
  const GateNumbers gate = gate_numbers(0.0, 0.0, 0, rise, fall, exponential);
  const bool is_double = g.scalar_type() == ScalarType::Double;
  (is_double ? gate_grad_rows<double> : gate_grad_rows<float>)(grad, g, way, gate, sums);
  return sums;
}

}  // namespace
}  // namespace fxfast

STABLE_TORCH_LIBRARY_FRAGMENT(fxfast, library) {
  library.def("follow(Tensor x, Tensor start, float rise, float fall) -> Tensor");
  library.def(
      "follow_grad(Tensor grad_y, Tensor x, Tensor y, Tensor start, float rise, float fall) -> "
      "(Tensor, Tensor)");
  library.def(
      "gate(Tensor levels, float open, float close, int hold, float rise, float fall, bool "
      "exponential) -> (Tensor, Tensor)");
  library.def(
      "gate_grad(Tensor grad_g, Tensor g, Tensor way, float rise, float fall, bool exponential) -> "
      "Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fxfast, CPU, library) {
  library.impl("follow", TORCH_BOX(&fxfast::follow_op));
  library.impl("follow_grad", TORCH_BOX(&fxfast::follow_grad));
  library.impl("gate", TORCH_BOX(&fxfast::gate_op));
  library.impl("gate_grad", TORCH_BOX(&fxfast::gate_grad));
}
