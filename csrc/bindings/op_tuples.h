// Programs as Python gives them: fxfast/native_ops.py.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/program.h"

namespace fxfast {

namespace py = pybind11;

using Floats = py::array_t<float, py::array::c_style>;
using OperandTuple = std::pair<std::uint32_t, std::uint32_t>;  // line, first channel
// kind, activation, combination or cell, (a, b, c, output), channels out, dilation, weight, bias,
// params
using OpTuple = std::tuple<int, int, int, std::array<OperandTuple, 4>, int, int,
                           std::optional<Floats>, std::optional<Floats>, std::optional<Floats>>;

inline std::vector<float> to_vector(const Floats& array) {
  return std::vector<float>(array.data(), array.data() + array.size());
}

inline Op op_of(const OpTuple& tuple) {
  const auto& [kind, activation, variant, operands, outs, dilation, weight, bias, params] = tuple;
  Op op;
  op.kind = static_cast<OpKind>(kind);
  op.activation = static_cast<Activation>(activation);
  if (op.kind == OpKind::kRecurrent) {
    op.cell = static_cast<Cell>(variant);
  } else {
    op.combine = static_cast<Combine>(variant);
  }
  Operand* places[4] = {&op.a, &op.b, &op.c, &op.output};
  for (std::size_t i = 0; i < 4; ++i) *places[i] = {operands[i].first, operands[i].second};
  op.out_channels = outs;
  op.dilation = dilation;
  if (weight) {
    if (weight->ndim() != 3) throw ModelError("weight: expected 3 dimensions");
    // A recurrent layer's weight is (in + out, 4, out).
    const bool is_recurrent = op.kind == OpKind::kRecurrent;
    op.in_channels = static_cast<int>(is_recurrent ? weight->shape(0) - outs : weight->shape(1));
    op.taps = is_recurrent ? 1 : static_cast<int>(weight->shape(2));
    op.weight = to_vector(*weight);
  }
  if (bias) op.bias = to_vector(*bias);
  if (params) op.params = to_vector(*params);
  if (op.kind == OpKind::kLevelGain) {
    op.in_channels = static_cast<int>(op.params.size()) - kGainNumbers;
  }
  return op;
}

inline Program program_of(const std::vector<int>& lines, const std::vector<OpTuple>& ops,
                          std::uint32_t output_line) {
  Program program{lines, {}, output_line};
  for (const OpTuple& op : ops) program.ops.push_back(op_of(op));
  return program;
}

}  // namespace fxfast
